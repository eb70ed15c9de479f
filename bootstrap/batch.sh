# What a batch does on the machine: one function a step. Sourced after machine.sh by main.sh, which bootstrap/batch.py
# writes. look.sh has the same functions, and only looks.
#
# Answers: those of machine.sh, and
#   changed i how | ran i base64(text) | wait i milliseconds | need digest | restored i base64(files) base64(text)

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
	install -o 0 -g 0 -m "$3" -- "$2" "$new" 2>"$d/error" || {
		{ printf '%s cannot be written: ' "$1" && said "$d/error"; } >"$d/why"
		rm -f -- "$new"
		fail step
	}
	must mv -f -T -- "$new" "$1"
}

# Before one of the files of list $1 is changed: keeps them as they are, where script $2 says that all is well. Once a
# batch, as what comes later is changed already; and where all is not well, what was kept before is better.
keep() { # list well
	[ ! -e "$d/asked.$1" ] || return 0
	: >"$d/asked.$1"
	limited 60 "$2" /dev/null || return 0
	list=$d/$1
	set --
	while IFS= read -r kept; do
		if [ -f "$kept" ] && [ ! -L "$kept" ]; then set -- "$@" "${kept#/}"; fi
	done <"$list"
	[ $# -gt 0 ] || return 0
	must mkdir -p -- "$state"
	must tar -cf "$state/.former" -C / -- "$@"
	must mv -f -- "$state/.former" "$state/former"
}

# Puts the files of list $1 back that are not as they were kept, each by its path in $d/back, and starts unit $2 anew
# where it uses one of them.
put_back() { # list unit unheeded uses...
	must mkdir -- "$d/former"
	must tar -xpf "$state/former" -C "$d/former"
	: >"$d/back"
	while IFS= read -r path; do
		kept=$d/former$path
		if ! [ -f "$kept" ] || file_is_right "$path" "$kept"; then continue; fi
		place "$path" "$kept" "$(stat -c %a -- "$kept")"
		printf '%s\n' "$path" >>"$d/back"
	done <"$d/$1"
	shift
	for used; do
		if grep -q -x -F -e "$used" "$d/back"; then
			unit "$@"
			return
		fi
	done
}

# After a wait that failed: goes back to what was kept, and waits for all to be well with it.
restore() { # list well milliseconds unit unheeded uses...
	[ -f "$state/former" ] || return 0
	list=$1 well=$2 limit=$3
	shift 3
	if (put_back "$list" "$@") >"$d/answers"; then
		[ -s "$d/back" ] || return 0
		if ask_until "$limit" "$well"; then
			must rm -f -- "$state/former"
			: >"$d/ill"
		else
			cp -- "$d/out" "$d/ill"
			[ -s "$d/ill" ] || echo 'it does not get well' >"$d/ill"
		fi
	else
		: >"$d/back"
		cp -- "$d/why" "$d/ill"
	fi
	printf 'restored\t%s\t%s\t%s\n' "$i" "$(base64 -w 0 <"$d/back")" "$(tail -c 2000 "$d/ill" | base64 -w 0)"
}

file() { # path mode content unless [list well]
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
	[ -z "${5-}" ] || keep "$5" "$6"
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
	memory_of "$1"
	printf '%s %s\n' "$2" "$(print_of "$1")" >"$memory.new" && must mv -f -- "$memory.new" "$memory"
}

need_binary() { binary_is_right "$1" "$2" "$3" "$4" || has_blob "$2" "$3" || printf 'need\t%s\n' "$2"; } # as binary
need_image() { image_is_right "$1" "$2" || has_blob "$3" "$4" || printf 'need\t%s\n' "$3"; }           # as image

# Fetches a blob, from where an earlier try ended if the server can do that.
fetch() { # digest size url ca
	must mkdir -p -- "$blobs"
	part=$blobs/$1.part
	left=$(($(df -P -k -- "$blobs" | awk 'NR == 2 { print $4 }') / 1024))
	[ "$left" -gt "$(($2 / 1048576))" ] || die "there are $left MiB left for $blobs, and $(($2 / 1048576)) are needed"
	[ "$(stat -c %s -- "$part" 2>/dev/null || echo 0)" -le "$2" ] || rm -f -- "$part"
	tries=0
	until download "$@"; do
		tries=$((tries + 1))
		case $ended/$tries in
		33/*) rm -f -- "$part" ;;                     # curl: the server can send no part of it
		18/[1-4] | 28/[1-4] | 56/[1-4]) sleep "$tries" ;; # curl: the connection was cut, or too slow
		*)
			{ printf '%s could not be fetched: ' "$3" && head -n 3 "$d/error"; } >"$d/why"
			fail step
			;;
		esac
	done
	came=$(digest_of "$part")
	if [ "$came" != "$1" ]; then
		rm -f -- "$part"
		die "what came from $3 is not what the bundle has: its SHA-256 is $came"
	fi
	must mv -f -- "$part" "$blobs/$1"
}

download() { # digest size url ca
	[ "$(stat -c %s -- "$part" 2>/dev/null)" != "$2" ] || return 0
	if type curl >/dev/null 2>&1; then
		curl -q -f -s -S -L --proto =http,https --max-redirs 5 --noproxy '*' --connect-timeout 10 --retry 3 \
			--speed-limit 10240 --speed-time 30 ${4:+--cacert "$d/$4"} -C - -o "$part" -- "$3" 2>"$d/error"
	elif type wget >/dev/null 2>&1; then
		wget --no-config -nv --no-proxy --max-redirect 5 --tries 4 --connect-timeout 10 --read-timeout 30 \
			${4:+--ca-certificate "$d/$4"} -c -O "$part" -- "$3" 2>"$d/error"
	else
		die "there is neither curl nor wget, and cluster.bundle.url has machines fetch $3: install one of them"
	fi
	ended=$?
	return "$ended"
}

blob() { # digest size [url ca]
	if ! has_blob "$1" "$2"; then
		[ -n "${3-}" ] || die "the blob $1 is not on the machine; run the command again"
		fetch "$@"
		return
	fi
	[ "$(digest_of "$blobs/$1")" = "$1" ] || {
		rm -f -- "$blobs/$1"
		die "the blob $1 was altered on the machine and is removed; run the command again"
	}
}

binary() { # path digest size mode [url ca]
	if binary_is_right "$@"; then
		[ -z "$was_read" ] || remember "$1" "$2"
		same
		return
	fi
	if [ -d "$1" ] && [ ! -L "$1" ]; then die "$1 is a directory; a file must stand there: move it away"; fi
	blob "$2" "$3" "${5-}" "${6-}"
	how=created
	if exists "$1"; then how=updated; fi
	place "$1" "$blobs/$2" "$4"
	remember "$1" "$2"
	must rm -f -- "$blobs/$2"
	changed "$how"
}

image() { # reference target digest size [url ca]
	if image_is_right "$1" "$2"; then
		same
		return
	fi
	how=pinned
	if ! image_is_there "$1" "$2"; then
		blob "$3" "$4" "${5-}" "${6-}"
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

unit() { # name unheeded uses...
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

run_once() { # seconds script stdin
	limited "$@"
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
}

hook() { # seconds script
	run_once "$1" "$2" /dev/null
	printf 'ran\t%s\t%s\n' "$i" "$(tail -c 2000 "$d/out" | base64 -w 0)"
}

command() { # seconds unless run stdin
	if limited "$1" "$2" /dev/null; then
		same
		return
	fi
	run_once "$1" "$3" "$d/$4"
	if ! limited "$1" "$2" /dev/null; then
		{ printf 'it ran, but to no effect\n' && cat "$d/out"; } >"$d/why"
		fail step
	fi
	changed 'done'
}

# Asks script $2 again and again until it exits 0 (gives 0) or 2 (gives that), or $1 milliseconds have gone by (gives 1).
# Where asking takes long it is most often the machine that has much to do: then it pauses as long, up to half a second.
ask_until() { # milliseconds until
	begin=$(milliseconds)
	told=0
	pause=100 # in milliseconds, of three digits
	next=0
	while :; do
		limited 60 "$2" /dev/null
		status=$?
		case $status in 0 | 2) return "$status" ;; esac
		elapsed=$(($(milliseconds) - begin))
		if [ "$elapsed" -ge "$1" ]; then return 1; fi
		if [ $((elapsed - told)) -ge 1000 ]; then
			printf 'wait\t%s\t%s\n' "$i" "$elapsed"
			told=$elapsed
		fi
		took=$((elapsed - next))
		if [ "$elapsed" -ge 20000 ]; then
			pause=999
		elif [ "$took" -ge 500 ]; then
			pause=500
		elif [ "$took" -ge 200 ]; then
			pause=$took
		elif [ "$elapsed" -ge 500 ]; then
			pause=200
		fi
		sleep "0.$pause"
		next=$((elapsed + pause))
	done
}

wait_until() { # milliseconds until explain last [list well milliseconds unit unheeded uses...]
	ask_until "$1" "$2"
	case $? in
	0)
		if [ -n "$4" ]; then must rm -f -- "$state/former"; fi
		same
		return
		;;
	2) kind=state ;;
	*) kind=time ;;
	esac
	{
		cat "$d/out"
		if [ -n "$3" ]; then timeout -k 5 60 sh "$d/$3" </dev/null 2>&1; fi
	} >"$d/found"
	if [ $# -gt 4 ]; then
		shift 4
		restore "$@"
	fi
	mv -f -- "$d/found" "$d/why"
	fail "$kind"
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
