# bootlib.sh - for tests of booting without machines: a cluster that boots real
# nodes, in a network namespace of its own, and a second one for its clients
# shellcheck shell=bash disable=SC2154
#
#     . tests/lib.sh
#     . tests/bootlib.sh
#     boot_net                 # $ns_m with m0 198.18.40.1, $ns_c with c0
#     boot_up                  # $tmp/config has been written
#     client curl ...          # from among the nodes

boot_net() {
    ns_m=cmm$$ ns_c=cmc$$
    on_exit+=("ip netns del $ns_m 2>/dev/null; ip netns del $ns_c 2>/dev/null")
    ip netns add "$ns_m" && ip netns add "$ns_c" || return
    ip -n "$ns_m" link set lo up
    ip -n "$ns_c" link set lo up
    ip link add m0 netns "$ns_m" type veth peer name c0 netns "$ns_c" || return
    ip -n "$ns_m" addr add 198.18.40.1/24 dev m0
    ip -n "$ns_c" addr add 198.18.40.200/24 dev c0
    ip -n "$ns_m" link set m0 up
    ip -n "$ns_c" link set c0 up
}
client() { ip netns exec "$ns_c" "$@"; }
get() { client curl -s -f -m 30 "$@"; }
# What the clients have received, in bytes.
received() { client awk '/c0:/ { sub(/.*:/, ""); print $1 }' /proc/net/dev; }

boot_up() {
    cluster=t$$
    names+=("$cluster")
    use_cluster "$cluster"
    # finish() deletes the namespaces before it ends the cluster: end it here
    on_exit=("clustermatic down --name $cluster" "${on_exit[@]}")
    if ! ip netns exec "$ns_m" clustermatic up --name "$cluster" --config "$tmp/config" \
        2>"$tmp/up.err"; then
        show_logs
        diag "$(cat "$tmp/up.err")"
        ok 'the cluster comes up' false
        done_testing
    fi
}
