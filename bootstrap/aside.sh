# Moves what another cluster left into a folder of its own. bootstrap/gather.py gives the folder and the paths as
# arguments, and reads the answers:
#
#   moved TAB path TAB where
#
# Nothing is deleted or written over. Needs POSIX sh, coreutils.
set -eu
umask 077
folder=$1
shift
for path; do
	if ! [ -e "$path" ] && ! [ -L "$path" ]; then continue; fi
	if [ -d "$path" ] && ! [ -L "$path" ]; then
		# The folder itself may be a mount point.
		mkdir -p -- "$folder$path"
		for entry in "$path"/* "$path"/.[!.]* "$path"/..?*; do
			if [ -e "$entry" ] || [ -L "$entry" ]; then mv -- "$entry" "$folder$path/"; fi
		done
	else
		mkdir -p -- "$folder${path%/*}"
		mv -- "$path" "$folder$path"
	fi
	printf 'moved\t%s\t%s\n' "$path" "$folder$path"
done
