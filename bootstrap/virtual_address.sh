# Looks who has an address, and whether VRRP gets to other machines. bootstrap/virtual_address.py appends the calls, and
# reads the answers:
#
#   holder TAB mac          that machine has the address
#   way TAB peer TAB what   came: the peer's kernel has it; unsent: nothing here could send it; else why it did not come
#
# Nothing is changed, but that the kernel asks anew who has the address. Needs POSIX sh, sed, logger (util-linux) and ip;
# perl (of Debian's perl-base) for VRRP.
set -u
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

holder() { # address
	ip neigh flush to "$1" 2>/dev/null
	logger --rfc3164 -t kubestrap -n "$1" -P 9 -d x 2>/dev/null
	round=0
	while [ "$round" -lt 15 ]; do
		mac=$(ip neigh show to "$1" 2>/dev/null | sed -n 's/.* lladdr \([^ ]*\) .*/\1/p')
		if [ "$mac" ]; then
			printf 'holder\t%s\n' "$mac"
			return
		fi
		sleep 0.1
		round=$((round + 1))
	done
}

# The answer that is hoped for: that the protocol is unknown there (ICMP unreachable, code 2). What is sent has a header
# of its own, so that this machine does not seem to listen to the protocol itself.
way() { # peer from address
	command -v perl >/dev/null || {
		printf 'way\t%s\tunsent\n' "$1"
		return
	}
	answer=$(timeout 10 perl -e '
		use Socket;
		my ($from, $to) = map { inet_aton($_) } @ARGV;
		socket(my $raw, PF_INET, SOCK_RAW, 255) or die "$!\n";
		socket(my $icmp, PF_INET, SOCK_RAW, 1) or die "$!\n";
		for (1 .. 3) {
			my $header = pack("CCnnnCCna4a4", 0x45, 0, 0, 0, 0, 64, 112, 0, $from, $to);
			send($raw, "${header}kubestrap", 0, sockaddr_in(0, $to)) or die "$!\n";
			vec(my $wanted = "", fileno($icmp), 1) = 1;
			while (select(my $ready = $wanted, undef, undef, 1) > 0) {
				recv($icmp, my $packet, 2048, 0);
				my $length = 4 * (15 & ord $packet);
				my ($type, $code) = unpack("x${length}CC", $packet);
				my ($protocol, $target) = unpack("x9Cx6a4", substr($packet, $length + 8) . "\0" x 20);
				next unless $type == 3 && $protocol == 112 && $target eq $to;
				print $code == 2 ? "came" : "it is refused on the way (ICMP unreachable, code $code)";
				exit;
			}
		}
		print "nothing comes back";' "$2" "$3" 2>&1)
	printf 'way\t%s\t%s\n' "$1" "$(printf %s "$answer" | tr '\n\t' '  ')"
}
