# What batch.sh and look.sh know of a machine, none of which changes it. Sourced by main.sh, before one of the two.
# Needs POSIX sh, GNU coreutils and systemd. $d is the batch's own folder (in memory, 0700), $i the step's number.
#
# Answers, a line each, fields parted by tabs (those of batch.sh and look.sh stand there):
#   same i | failed i kind base64(text)
set -u
umask 077
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
state=/var/lib/kubestrap
blobs=$state/blobs/sha256
tab=$(printf '\t')

same() { printf 'same\t%s\n' "$i"; }

# What a program said in file $1; and where no space was left for it, on which file systems, by the paths in that.
said() {
	grep -v ' level=warning ' "$1" || cat "$1"
	grep -q -i -e 'no space left on device' -e 'disk quota exceeded' "$1" || return
	tr -s " '\"\`,:=()" '\n' <"$1" | grep '^/' | grep -v -F -e "$d/" | while IFS= read -r named; do
		until [ -e "${named:-/}" ]; do named=${named%/*}; done
		df -P -k -- "${named:-/}"
	done | awk '$NF ~ "^/" && !told[$NF]++ {
		printf "No space is left on %s (%d of %d MiB are free): make room there and run the command again\n", $NF, $4 / 1024, $2 / 1024 }'
}

# Ends the batch with what stands in $d/why. $1: step, time, state or lock.
fail() {
	printf 'failed\t%s\t%s\t%s\n' "$i" "$1" "$(tail -c 20000 "$d/why" | base64 -w 0)"
	exit 3
}

die() {
	printf '%s\n' "$*" >"$d/why"
	fail step
}

must() {
	"$@" >"$d/out" 2>"$d/error" && return
	{ printf '%s: ' "$*" && said "$d/error"; } >"$d/why"
	fail step
}

# Before each step: a batch of a run (lock.sh) goes on only while that run holds the machine's lock.
begin() { # step
	i=$1
	if [ -z "${KUBESTRAP_RUN-}" ]; then return; fi
	{ IFS= read -r held </run/kubestrap/lock && [ "$held" = "held $KUBESTRAP_RUN" ]; } 2>/dev/null && return
	echo 'the lock of this machine is not held by this run any more' >"$d/why"
	fail lock
}

exists() { [ -e "$1" ] || [ -L "$1" ]; }
modes() { stat -c %a:%u:%g -- "$1" 2>/dev/null; }

file_is_right() { [ -f "$1" ] && [ ! -L "$1" ] && cmp -s -- "$2" "$1"; } # path content
mode_is_right() { [ "$(stat -c %a:%u:%g -- "$1" 2>/dev/null)" = "$2:0:0" ]; } # path mode
link_is_right() { [ "$(readlink -- "$1")" = "$2" ]; }                         # path target

# What systemd says of unit $1, for the questions below.
ask_unit() {
	systemctl show -p NeedDaemonReload -p ActiveState -p UnitFileState -p LoadState -- "$1" >"$d/unit" 2>"$d/error"
}
unit_is_stale() { grep -q '^NeedDaemonReload=yes' "$d/unit"; }
unit_is_enabled() { grep -q '^UnitFileState=enabled$' "$d/unit"; }
unit_is_active() { grep -q '^ActiveState=active$' "$d/unit"; }
unit_is_off() { ! grep -Eq '^(UnitFileState=enabled.*|ActiveState=(active|activating|reloading))$' "$d/unit"; }
unit_is_fresh() { [ -f "$1" ] && ! grep -q -v -x -F -f "$1" "$d/uses"; } # stamp

# What is remembered of a file that we placed, so that it need not be read again: digest, size, time, mode.
print_of() { stat -c '%s:%Y:%a:%u:%g' -- "$1" 2>/dev/null; }

# Sets $memory to where that is. There are many such files, and a program that is started takes a thousandth of a second.
memory_of() {
	memory=$state/placed/
	rest=$1
	while [ "$rest" != "${rest#*/}" ]; do
		memory=$memory${rest%%/*}_
		rest=${rest#*/}
	done
	memory=$memory$rest
}
digest_of() { sha256sum <"$1" | cut -c 1-64; }

# Whether a binary is right; $was_read tells whether it had to be read for that (yes or nothing).
binary_is_right() { # path digest size mode
	was_read=
	[ -f "$1" ] && [ ! -L "$1" ] || return 1
	print=$(print_of "$1")
	case $print in "$3":*:"$4":0:0) ;; *) return 1 ;; esac
	memory_of "$1"
	if [ -f "$memory" ] && IFS= read -r remembered <"$memory" && [ "$remembered" = "$2 $print" ]; then return 0; fi
	was_read=yes
	[ "$(digest_of "$1")" = "$2" ]
}

# One listing serves every image of a batch; it is asked for again after a change. $unlisted: there is none to have.
images() {
	[ -s "$d/images" ] && return
	unlisted=
	timeout 60 ctr -n k8s.io images ls >"$d/images" 2>/dev/null && return
	unlisted=yes
	: >"$d/images"
}

image_is_there() { # reference target
	images
	awk -v name="$1" -v target="$2" '$1 == name && $3 == target { found = 1 } END { exit !found }' "$d/images"
}
image_is_right() { # reference target
	images
	awk -v name="$1" -v target="$2" '
		$1 == name && $3 == target && /io\.cri-containerd\.pinned=pinned/ { found = 1 } END { exit !found }' "$d/images"
}

has_blob() { [ -f "$blobs/$1" ] && [ "$(stat -c %s -- "$blobs/$1")" = "$2" ]; }

# What a unit was started with: small files by what they hold, large ones by size and time. What is gone is no change.
uses() { # unheeded uses...
	unheeded=$1
	shift
	for used; do
		[ -f "$used" ] || continue
		if [ "$(stat -c %s -- "$used")" -gt 1048576 ]; then
			stat -c '%n %s %Y' -- "$used"
		else
			printf '%s %s\n' "$(heeded "$unheeded" "$used" | cksum)" "$used"
		fi
	done
}

# What a running unit would heed of file $2; where a part of it is not, spaces and quotes around that do not count.
heeded() { # unheeded file
	if [ -n "$1" ]; then sed -E -e "s/$1//g" -e 's/[" ]//g' -- "$2"; else cat -- "$2"; fi
}

limited() { # seconds script stdin
	timeout -k 5 "$1" sh "$d/$2" <"$3" >"$d/out" 2>&1
}

milliseconds() { echo "$(($(date +%s%N) / 1000000))"; }
