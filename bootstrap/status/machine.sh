# Tell what `kubestrap status` shows of this machine: its services, certificates (no key), and who answers of the API.
#
#     sh -s KUBECTL PORT ENDPOINT_CONF FILE...
#
# PORT is that of the API server here, empty where none is meant to run. ENDPOINT_CONF is the kubeconfig by which this
# machine finds the cluster. Each FILE is one of certificates, or a kubeconfig (*.conf). Lines, parted by tabs:
# unit NAME STATE; api WORDS; endpoint WORDS (WORDS is "ok", or why not); pem PATH BASE64; data PATH BASE64.
set -u
kubectl=$1 port=$2 conf=$3
shift 3
tab=$(printf '\t')

ask() { # ask WHAT OPTION...: whether /readyz answers, in one line
    what=$1
    shift
    said=$(timeout -k 2 10 "$kubectl" "$@" --request-timeout 8s get --raw /readyz 2>&1) && said=ok
    [ -n "$said" ] || said="no answer within 10 s"
    printf '%s\t%s\n' "$what" "$(printf '%s\n' "$said" | tail -n 1 | tr '\t' ' ')"
}

for unit in containerd kubelet; do
    printf 'unit\t%s\t%s\n' "$unit" "$(systemctl is-active "$unit.service" 2>/dev/null)"
done
if [ -x "$kubectl" ] && [ -f "$conf" ]; then
    ask endpoint --kubeconfig "$conf" &
    [ -z "$port" ] || ask api --kubeconfig "$conf" --server "https://127.0.0.1:$port" --tls-server-name kubernetes &
fi
for file; do
    [ -f "$file" ] || continue
    case $file in
    *.conf) sed -n "s|^ *client-certificate-data: *|data$tab$file$tab|p" "$file" ;;
    *) printf 'pem\t%s\t%s\n' "$file" \
        "$(sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p; /END CERTIFICATE/q' "$file" | grep -v CERTIFICATE | tr -d '\n')" ;;
    esac
done
wait
