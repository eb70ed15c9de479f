# The lock of one machine: who may change it. Run by bootstrap/lock.py with arguments:
#
#   hold RUN LEASE WHO COMMAND SINCE   takes it, keeps it while lines come on standard input, and gives it up at their end
#   show                               tells who holds it
#   free RUN                           takes it from RUN
#
# Answers, fields parted by tabs:
#   taken [RUN]                                          RUN is the dead one whose lock this was
#   held state RUN seconds-left SINCE WHO COMMAND        somebody else's; `none` where there is none
#   lost                                                 it went to somebody else
#   unable why
#
# The lock is a file in memory, so a restart of the machine frees it: "held RUN" or "stopping RUN" in its first line,
# then, a line each, when it lapses (seconds since the start of the machine: no clock that is set counts), since when,
# who, and the command. All processes of a run bear KUBESTRAP_RUN=RUN in their environment. POSIX sh, coreutils, flock.
set -u
umask 077
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
# The connection may be gone; what is to be cleaned up then is still cleaned up.
trap '' HUP PIPE
folder=/run/kubestrap
lock=$folder/lock
state=/var/lib/kubestrap

unable() {
	printf 'unable\t%s\n' "$1"
	exit 0
}
command -v flock >/dev/null 2>&1 || unable 'there is no flock(1): install util-linux'

enter() { flock -w 20 9 || unable "$folder/mutex cannot be locked"; }
leave() { flock -u 9; }
seconds() {
	read -r now _ </proc/uptime
	now=${now%%.*}
}
load() {
	phase='' run='' lapse=0 since='' who='' what=''
	[ -f "$lock" ] || return 1
	{ read -r phase run && read -r lapse && IFS= read -r since && IFS= read -r who && IFS= read -r what; } <"$lock"
}
save() { # phase run lapse since who what
	printf '%s %s\n%s\n%s\n%s\n%s\n' "$@" >"$lock.new" && mv -f -- "$lock.new" "$lock" || unable "$lock cannot be written"
}
tell() {
	seconds
	left=$((lapse - now))
	if [ "$left" -lt 0 ]; then left=0; fi
	printf 'held\t%s\t%s\t%s\t%s\t%s\t%s\n' "$phase" "$run" "$left" "$since" "$who" "$what"
}

# Whatever has one of these in its environment. Processes that end meanwhile make the status of grep an error.
acting() { grep -l -s -F "$@" /proc/[0-9]*/environ || :; }
signal() {
	for file in $found; do
		pid=${file#/proc/}
		kill -s "$1" "${pid%/environ}" 2>/dev/null
	done
}
# Lets processes go on for $1 tenths of a second, and ends those that are left.
end() { # tenths patterns...
	tenths=0
	patience=$1
	shift
	while found=$(acting "$@") && [ -n "$found" ] && [ "$tenths" -lt $((patience + 60)) ]; do
		if [ "$tenths" -eq "$patience" ]; then signal TERM; elif [ "$tenths" -ge $((patience + 7)) ]; then signal KILL; fi
		sleep 0.1
		tenths=$((tenths + 1))
	done
}

# What a run that was killed leaves half-made. Only whoever holds the lock may call it.
clean() {
	for left in "$folder"/run.*; do
		case $left in "$folder/run.$1."* | "$folder/run.0."*) continue ;; esac
		rm -rf -- "$left"
	done
	rm -f -- "$state"/blobs/sha256/*.part "$state"/placed/*.new "$state"/units/.[!.]* "$state/.receipt" "$state/.former" \
		/etc/.hosts.kubestrap /etc/.fstab.kubestrap
	[ -f "$state/receipt" ] || return 0
	last=''
	while IFS='	' read -r _ path; do
		case $path in /*) ;; *) continue ;; esac
		place=${path%/*}
		case $place in */manifests) place=${place%/*} ;; esac
		[ "$place" != "$last" ] || continue
		last=$place
		for left in "$place"/.kubestrap.*; do
			if [ -f "$left" ] || [ -L "$left" ]; then rm -f -- "$left"; fi
		done
	done <"$state/receipt"
}

# Waits for a lock that nobody renews to lapse; one that is renewed has a living owner. One that goes to another run
# has perhaps not: a command that waited for it takes it even after its own run was killed, and soon gives it up.
take() {
	seen='' seen_lapse=0
	rounds=0
	while :; do
		enter
		seconds
		if ! load || [ "$lapse" -le "$now" ]; then break; fi
		leave
		[ "$run" != "$id" ] || unable 'it is the machine of another host of the inventory'
		if { [ "$seen" = "$run" ] && [ "$seen_lapse" != "$lapse" ]; } || [ "$rounds" -ge 300 ]; then
			tell
			exit 0
		fi
		seen=$run seen_lapse=$lapse
		rounds=$((rounds + 1))
		sleep 0.2
	done
	dead=$run
	save held "$id" $((now + lease)) "$own_since" "$own_who" "$own_what"
	leave
	if [ -n "$dead" ]; then end 0 -e "KUBESTRAP_RUN=$dead" -e "KUBESTRAP_HOLDER=$dead"; fi
	clean "$id"
	printf 'taken\t%s\n' "$dead"
}

# Ends a run: nothing of it begins another step, the current one has a while to finish, then it is ended.
free() { # run tenths
	enter
	if ! load || [ "$run" != "$1" ]; then
		leave
		return
	fi
	save stopping "$run" "$lapse" "$since" "$who" "$what"
	leave
	end "$2" -e "KUBESTRAP_RUN=$1"
	rm -rf -- "$folder/run.$1".*
	enter
	if load && [ "$run" = "$1" ]; then rm -f -- "$lock"; fi
	leave
}

case $1 in
hold)
	id=$2 lease=$3 own_who=$4 own_what=$5 own_since=$6
	mkdir -p -- "$folder" && exec 9>"$folder/mutex" || unable "$folder cannot be written"
	take
	while read -r _; do
		enter
		if ! load || [ "$phase $run" != "held $id" ]; then
			printf 'lost\n'
			exit 0
		fi
		seconds
		save held "$id" $((now + lease)) "$own_since" "$own_who" "$own_what"
		leave
	done
	free "$id" 28
	;;
show) if load; then tell; else echo none; fi ;;
free)
	mkdir -p -- "$folder" && exec 9>"$folder/mutex" || unable "$folder cannot be written"
	free "$2" 0
	;;
esac
