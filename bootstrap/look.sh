# What a batch finds on the machine, and would do: the functions of batch.sh, and none of them changes anything.
# Sourced after machine.sh by main.sh, which bootstrap/batch.py writes.
#
# Steps build on each other, so what earlier ones would have made is kept in $d/now, by path: .object is what would
# stand there, .digest what it would hold where .object does not hold it, .gone that nothing would.
#
# Answers: those of machine.sh, and
#   would i how present | after i j how | unmet i base64(text)
# `present` is text:base64, link:base64, sha256:hex, mode:mode:uid:gid or nothing. `after` is a step whose outcome
# depends on that of step j, which is not done; `how` is what it would do if j changed nothing for it. `unmet` is a wait.
acting= # the last step that would set something going, if any
here=   # the last command of this phase that would run, if any

would() { printf 'would\t%s\t%s\t%s\n' "$i" "$1" "${2-}"; }
after() { printf 'after\t%s\t%s\t%s\n' "$i" "$1" "${2-}"; }

phase() { here=; }

# Where the state of path $1 is seen: $at.
see() {
	at=$1
	over=$d/now$1
	if exists "$over/.object"; then at=$over/.object; elif [ -e "$over/.gone" ]; then at=$over/.gone/none; fi
}

# Makes room for what would stand at path $1, below folders that would have been made for it.
clear() {
	over=$d/now$1
	must mkdir -p -- "$over"
	must rm -rf -- "$over/.object" "$over/.digest" "$over/.gone"
	up=${1%/*}
	while [ -n "$up" ]; do
		see "$up"
		if [ -d "$at" ]; then break; fi
		if exists "$at"; then die "$up is not a directory; one must stand there: move it away"; fi
		must mkdir -p -- "$d/now$up"
		must mkdir -m 755 -- "$d/now$up/.object"
		up=${up%/*}
	done
	over=$d/now$1
}

wanted_digest() { if [ -n "$2" ]; then cat "$d/$1"; else digest_of "$d/$1"; fi; } # content secret

# The digest of what is seen at path $1.
present_digest() {
	see "$1"
	if [ -f "$over/.digest" ]; then cat "$over/.digest"; else digest_of "$at"; fi
}

content_is_right() { # path content secret
	see "$1"
	[ -f "$at" ] && [ ! -L "$at" ] || return 1
	if [ -n "$3" ] || [ -f "$over/.digest" ]; then
		[ "$(present_digest "$1")" = "$(wanted_digest "$2" "$3")" ]
	else
		file_is_right "$at" "$d/$2"
	fi
}

present() { # path secret
	see "$1"
	if [ -L "$at" ]; then
		printf 'link:%s' "$(readlink -- "$at" | base64 -w 0)"
	elif ! [ -f "$at" ]; then
		:
	elif [ -n "$2" ] || [ -f "$over/.digest" ] || [ "$(stat -c %s -- "$at")" -gt 262144 ]; then
		printf 'sha256:%s' "$(present_digest "$1")"
	else
		printf 'text:%s' "$(base64 -w 0 <"$at")"
	fi
}

file() { # path mode content unless secret
	if [ -n "$4" ]; then
		see "$4"
		if exists "$at"; then
			same
			return
		fi
	fi
	see "$1"
	if [ -d "$at" ] && [ ! -L "$at" ]; then die "$1 is a directory; a file must stand there: move it away"; fi
	if content_is_right "$1" "$3" "$5"; then
		if mode_is_right "$at" "$2"; then
			same
			return
		fi
		would 'mode and owner mended' "mode:$(modes "$at")"
		if [ "$at" = "$over/.object" ]; then
			must chmod "$2" -- "$at"
			return
		fi
	else
		how=created
		if exists "$at"; then how=updated; fi
		would "$how" "$(present "$1" "$5")"
	fi
	clear "$1"
	if [ -n "$5" ]; then
		must cp -- "$d/$3" "$over/.digest"
		: >"$over/.object"
	else
		must cp -- "$d/$3" "$over/.object"
	fi
	must chmod "$2" -- "$over/.object"
}

directory() { # path mode
	see "$1"
	if [ -d "$at" ]; then
		if mode_is_right "$at" "$2"; then
			same
			return
		fi
		would 'mode and owner mended' "mode:$(modes "$at")"
	else
		if exists "$at"; then die "$1 is not a directory; one must stand there: move it away"; fi
		would created
	fi
	clear "$1"
	must mkdir -m "$2" -- "$over/.object"
}

link() { # path target
	see "$1"
	if link_is_right "$at" "$2"; then
		same
		return
	fi
	if [ -d "$at" ] && [ ! -L "$at" ]; then die "$1 is a directory; a link must stand there: move it away"; fi
	would linked "$(present "$1" '')"
	clear "$1"
	must ln -s -- "$2" "$over/.object"
}

absent() { # path
	see "$1"
	if ! exists "$at"; then
		same
		return
	fi
	if [ -d "$at" ] && [ ! -L "$at" ]; then die "$1 is a directory, which is not removed for a file"; fi
	would removed "$(present "$1" secret)"
	clear "$1"
	must mkdir -- "$over/.gone"
}

binary() { # path digest size mode
	see "$1"
	if [ "$at" = "$over/.object" ] && [ -f "$over/.digest" ]; then
		if [ "$(cat "$over/.digest")" = "$2" ] && mode_is_right "$at" "$4"; then
			same
			return
		fi
	elif binary_is_right "$at" "$2" "$3" "$4"; then
		same
		return
	fi
	if [ -d "$at" ] && [ ! -L "$at" ]; then die "$1 is a directory; a file must stand there: move it away"; fi
	how=created
	if exists "$at"; then how=updated; fi
	would "$how" "$(present "$1" secret)"
	clear "$1"
	printf '%s\n' "$2" >"$over/.digest"
	: >"$over/.object"
	must chmod "$4" -- "$over/.object"
}

image() { # reference target digest size
	if image_is_right "$1" "$2"; then
		same
		return
	fi
	how=imported
	if image_is_there "$1" "$2"; then how=pinned; fi
	if [ -n "$unlisted" ] && [ -n "$acting" ]; then
		after "$acting" "$how"
		return
	fi
	would "$how"
	printf '%s - %s - - io.cri-containerd.pinned=pinned\n' "$1" "$2" >>"$d/images"
}

# What a unit would be started with; as `uses`, of what would stand there.
would_use() { # unheeded uses...
	unheeded=$1
	shift
	for used; do
		see "$used"
		if [ "$at" = "$used" ]; then
			uses "$unheeded" "$used"
		elif [ -f "$over/.digest" ]; then
			if [ -f "$used" ] && [ "$(stat -c %s -- "$used")" -le 1048576 ] &&
				[ "$(digest_of "$used")" = "$(cat "$over/.digest")" ]; then
				uses "$unheeded" "$used"
			else
				printf '%s would be placed\n' "$used"
			fi
		elif [ -f "$at" ]; then
			printf '%s %s\n' "$(heeded "$unheeded" "$at" | cksum)" "$used"
		fi
	done
}

unit_unknown() { die "systemctl show $1: $(cat "$d/error")"; }

unit() { # name unheeded uses...
	name=$1
	shift
	would_use "$@" >"$d/uses"
	ask_unit "$name" || unit_unknown "$name"
	how=
	unit_is_enabled || how=enabled
	if ! unit_is_active; then how=started; elif ! unit_is_fresh "$state/units/$name"; then how=restarted; fi
	if [ -n "$here" ]; then after "$here" "$how"; elif [ -n "$how" ]; then would "$how"; else same; fi
	[ -z "$how" ] || acting=$i
}

unit_off() { # name
	ask_unit "$1" || unit_unknown "$1"
	if unit_is_off; then
		same
	else
		would 'stopped and disabled'
		acting=$i
	fi
}

command() { # seconds unless
	if limited "$1" "$2" /dev/null; then
		if [ -n "$here" ]; then after "$here"; else same; fi
		return
	fi
	if [ -n "$acting" ]; then after "$acting" 'done'; else would 'done'; fi
	acting=$i
	here=$i
}

wait_until() { # milliseconds until
	if [ -n "$acting" ]; then
		after "$acting"
	elif limited 30 "$2" /dev/null; then
		same
	else
		printf 'unmet\t%s\t%s\n' "$i" "$(tail -c 2000 "$d/out" | base64 -w 0)"
	fi
}
