# What a batch does on the machine: one function a step. Sourced after machine.sh by main.sh, which bootstrap/batch.py
# writes. look.sh has the same functions, and only looks.
#
# Answers: those of machine.sh, and
#   changed i how | wait i milliseconds | need digest

changed() { printf 'changed\t%s\t%s\n' "$i" "$1"; }

# Where the new form of file $1 is put together: beside it, but never in a folder whose every file is a Pod.
staging() {
	folder=${1%/*}
	case $folder in */manifests) folder=${folder%/*} ;; esac
	printf '%s/.kubestrap.%s' "$folder" "${1##*/}"
}

above() { [ -d "${1%/*}" ] || (umask 022 && must mkdir -p -- "${1%/*}") || exit 3; }

# Puts $2 (a file that is ours to copy) at $1 with mode $3.
place() {
	above "$1"
	new=$(staging "$1")
	must rm -f -- "$new"
	cp -- "$2" "$new" 2>"$d/error" || {
		{ printf '%s cannot be written: ' "$1" && said "$d/error"; } >"$d/why"
		rm -f -- "$new"
		fail step
	}
	must chown 0:0 -- "$new"
	must chmod "$3" -- "$new"
	must mv -f -T -- "$new" "$1"
}

file() { # path mode content unless
	if [ -n "$4" ] && exists "$4"; then
		same
		return
	fi
	if [ -d "$1" ] && [ ! -L "$1" ]; then die "$1 is a directory; a file must stand there: move it away"; fi
	if file_is_right "$1" "$d/$3"; then
		if mode_is_right "$1" "$2"; then
			same
			return
		fi
		must chown 0:0 -- "$1"
		must chmod "$2" -- "$1"
		changed 'mode and owner mended'
		return
	fi
	how=created
	if exists "$1"; then how=updated; fi
	place "$1" "$d/$3" "$2"
	changed "$how"
}

directory() { # path mode
	if [ -d "$1" ]; then
		if mode_is_right "$1" "$2"; then
			same
			return
		fi
		must chown 0:0 -- "$1"
		must chmod "$2" -- "$1"
		changed 'mode and owner mended'
		return
	fi
	if exists "$1"; then die "$1 is not a directory; one must stand there: move it away"; fi
	above "$1"
	must mkdir -m "$2" -- "$1"
	changed created
}

link() { # path target
	if link_is_right "$1" "$2"; then
		same
		return
	fi
	if [ -d "$1" ] && [ ! -L "$1" ]; then die "$1 is a directory; a link must stand there: move it away"; fi
	above "$1"
	new=$(staging "$1")
	must ln -s -f -T -- "$2" "$new"
	must mv -f -T -- "$new" "$1"
	changed linked
}

absent() { # path
	if ! exists "$1"; then
		same
		return
	fi
	if [ -d "$1" ] && [ ! -L "$1" ]; then die "$1 is a directory, which is not removed for a file"; fi
	must rm -f -- "$1"
	changed removed
}

remember() { # path digest
	must mkdir -p -- "$state/placed"
	memory=$(memory_of "$1")
	printf '%s %s\n' "$2" "$(print_of "$1")" >"$memory.new" && must mv -f -- "$memory.new" "$memory"
}

need_binary() { binary_is_right "$1" "$2" "$3" "$4" || has_blob "$2" "$3" || printf 'need\t%s\n' "$2"; } # as binary
need_image() { image_is_right "$1" "$2" || has_blob "$3" "$4" || printf 'need\t%s\n' "$3"; }           # as image

blob() { # digest size
	has_blob "$1" "$2" || die "the blob $1 is not on the machine; run the command again"
	[ "$(digest_of "$blobs/$1")" = "$1" ] || {
		rm -f -- "$blobs/$1"
		die "the blob $1 was altered on the machine and is removed; run the command again"
	}
}

binary() { # path digest size mode
	if binary_is_right "$@"; then
		[ -z "$was_read" ] || remember "$1" "$2"
		same
		return
	fi
	if [ -d "$1" ] && [ ! -L "$1" ]; then die "$1 is a directory; a file must stand there: move it away"; fi
	blob "$2" "$3"
	how=created
	if exists "$1"; then how=updated; fi
	place "$1" "$blobs/$2" "$4"
	remember "$1" "$2"
	must rm -f -- "$blobs/$2"
	changed "$how"
}

image() { # reference target digest size
	if image_is_right "$1" "$2"; then
		same
		return
	fi
	how=pinned
	if ! image_is_there "$1" "$2"; then
		blob "$3" "$4"
		must timeout 600 ctr -n k8s.io images import --local "$blobs/$3"
		how=imported
	fi
	must timeout 60 ctr -n k8s.io images label "$1" io.cri-containerd.pinned=pinned
	: >"$d/images"
	image_is_right "$1" "$2" || die "containerd does not show $1 as $2 after its import"
	rm -f -- "$blobs/$3"
	changed "$how"
}

unit_failed() { # name verb
	{
		cat "$d/error"
		printf 'systemctl %s %s failed; the last lines of its journal:\n' "$2" "$1"
		journalctl --no-pager -q -n 20 -o cat -u "$1" 2>&1
	} >"$d/why"
	fail step
}

unit() { # name uses...
	name=$1
	shift
	uses "$@" >"$d/uses"
	stamp=$state/units/$name
	fresh=yes
	unit_is_fresh "$stamp" || fresh=
	ask_unit "$name" || unit_failed "$name" show
	how=
	if [ -z "$fresh" ] || unit_is_stale; then
		systemctl daemon-reload 2>"$d/error" || unit_failed "$name" daemon-reload
	fi
	if ! unit_is_enabled; then
		systemctl enable -q -- "$name" 2>"$d/error" || unit_failed "$name" enable
		how=enabled
	fi
	if ! unit_is_active; then
		systemctl reset-failed -- "$name" 2>/dev/null
		timeout 100 systemctl restart -- "$name" 2>"$d/error" || unit_failed "$name" start
		how=started
	elif [ -z "$fresh" ]; then
		timeout 100 systemctl restart -- "$name" 2>"$d/error" || unit_failed "$name" restart
		how=restarted
	fi
	if [ -z "$fresh" ]; then
		must mkdir -p -- "$state/units"
		must cp -- "$d/uses" "$state/units/.$name"
		must mv -f -- "$state/units/.$name" "$stamp"
	fi
	if [ -n "$how" ]; then changed "$how"; else same; fi
}

unit_off() { # name
	ask_unit "$1" || unit_failed "$1" show
	if unit_is_off; then
		same
		return
	fi
	timeout 100 systemctl disable -q --now -- "$1" 2>"$d/error" || unit_failed "$1" disable
	changed 'stopped and disabled'
}

command() { # seconds unless run stdin
	if limited "$1" "$2" /dev/null; then
		same
		return
	fi
	limited "$1" "$3" "$d/$4"
	status=$?
	case $status in
	0) ;;
	124 | 137)
		{ printf 'it did not end within %s s\n' "$1" && cat "$d/out"; } >"$d/why"
		fail time
		;;
	*)
		{ printf 'it exited with %s\n' "$status" && said "$d/out"; } >"$d/why"
		fail step
		;;
	esac
	if ! limited "$1" "$2" /dev/null; then
		{ printf 'it ran, but to no effect\n' && cat "$d/out"; } >"$d/why"
		fail step
	fi
	changed 'done'
}

wait_until() { # milliseconds until explain
	begin=$(milliseconds)
	told=0
	pause=0.1
	while :; do
		limited 60 "$2" /dev/null
		status=$?
		[ "$status" -ne 0 ] || break
		elapsed=$(($(milliseconds) - begin))
		if [ "$status" -eq 2 ] || [ "$elapsed" -ge "$1" ]; then
			kind=time
			if [ "$status" -eq 2 ]; then kind=state; fi
			{
				cat "$d/out"
				if [ -n "$3" ]; then timeout -k 5 60 sh "$d/$3" </dev/null 2>&1; fi
			} >"$d/why"
			fail "$kind"
		fi
		if [ $((elapsed - told)) -ge 1000 ]; then
			printf 'wait\t%s\t%s\n' "$i" "$elapsed"
			told=$elapsed
		fi
		sleep "$pause"
		if [ "$elapsed" -ge 20000 ]; then pause=1; elif [ "$elapsed" -ge 500 ]; then pause=0.2; fi
	done
	same
}

# Adds the lines of $1 to the receipt, before any of what they name is made.
receipt() {
	must mkdir -p -- "$state"
	[ -f "$state/receipt" ] || : >"$state/receipt"
	must sort -u -o "$d/merged" -- "$state/receipt" "$1"
	cmp -s -- "$d/merged" "$state/receipt" && return
	must cp -- "$d/merged" "$state/.receipt"
	must mv -f -- "$state/.receipt" "$state/receipt"
}
