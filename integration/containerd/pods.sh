# Cases: what a kubelet, or crictl, asks of the runtime by way of the Container
# Runtime Interface: pods, and their containers.

# cri METHOD JSON : the call's response is in $answer; or it fails with its error.
cri() {
    local reply=$WORK/cri/reply.$BASHPID descriptor
    [ -p "$reply" ] || mkfifo "$reply"
    # It is open before it is asked for, so that neither side waits for the other.
    exec {descriptor}<>"$reply"
    echo "$reply $1 ${2//$'\n'/ }" >"$WORK/cri/calls"
    read -r -t $((70 * SLOWNESS)) -u "$descriptor" answer || { echo "$1: no answer" >&2; return 1; }
    exec {descriptor}<&-
    [ "${answer:0:1}" = 0 ] || { echo "$1: ${answer:2}" >&2; return 1; }
    answer=${answer:2}
}

# text FIELD : that of $answer, a plain one.
text() {
    [[ $answer =~ \"$1\":\ \"?([^\",}]*) ]] || fail "no $1 in $answer"
    echo "${BASH_REMATCH[1]}"
}

# quoted TEXT : as JSON has it.
quoted() {
    local word=${1//\\/\\\\}
    printf '"%s"' "${word//\"/\\\"}"
}

# pod NAME [LINUX [SECURITY]] : runs one; its id is $pod. LINUX and SECURITY are more
# fields of its linux part and of the security context in there, each after a comma.
pod() {
    local hostname=$1
    # The host's network goes with its name.
    [[ ${3:-} != *'"network": "NODE"'* ]] || hostname=
    sandbox="{\"metadata\": {\"name\": \"$1\", \"uid\": \"$1\", \"namespace\": \"test\"}, \"hostname\": \"$hostname\", \"log_directory\": \"$WORK/cri/logs\",
        \"linux\": {\"cgroup_parent\": \"$CGROUP\", \"security_context\": {\"seccomp\": {\"profile_type\": \"Unconfined\"} ${3:-}} ${2:-}}}"
    cri RunPodSandbox "{\"config\": $sandbox, \"runtime_handler\": \"orlop\"}"
    pod=$(text pod_sandbox_id)
}

# container NAME COMMAND [FIELDS] : makes and starts one of the last pod, which runs a
# shell's command line; its id is $container, its log $WORK/cri/logs/NAME.
container() {
    cri CreateContainer "{\"pod_sandbox_id\": \"$pod\", \"sandbox_config\": $sandbox, \"config\": {\"metadata\": {\"name\": \"$1\"},
        \"image\": {\"image\": \"$IMAGE\"}, \"command\": [\"sh\", \"-c\", $(quoted "$2")], \"log_path\": \"$1\" ${3:-}}}"
    container=$(text container_id)
    cri StartContainer "{\"container_id\": \"$container\"}"
}

# inside CONTAINER COMMAND : what a shell's command line there prints, and its status.
inside() {
    cri ExecSync "{\"container_id\": \"$1\", \"cmd\": [\"sh\", \"-c\", $(quoted "$2")], \"timeout\": 20}"
    jq -rj .stdout <<<"$answer"
    return "$(text exit_code)"
}

# status_of CONTAINER : its state and exit code.
status_of() {
    cri ContainerStatus "{\"container_id\": \"$1\"}"
    echo "$(text state) $(text exit_code)"
}

# log NAME : of a container, without the times.
log() {
    cut -d ' ' -f 2- "$WORK/cri/logs/$1"
}

# process_of CONTAINER
process_of() {
    cri ContainerStatus "{\"container_id\": \"$1\", \"verbose\": true}"
    jq -r '.info.info | fromjson | .pid' <<<"$answer"
}

end_pod() {
    cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}"
    cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}"
}

it_runs_a_container_in_a_pod() {
    pod plain
    cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}"
    equal SANDBOX_READY "$(text state)"
    container first 'echo out; echo err >&2; exit 4'
    eventually is "CONTAINER_EXITED 4" status_of "$container"
    equal "stderr F err stdout F out " "$(log first | sort | tr '\n' ' ')"
    # The next attempt, in the same pod.
    container second 'echo again; exec sleep 1000' ', "envs": [{"key": "MODE", "value": "a b"}], "working_dir": "/tmp"'
    equal "CONTAINER_RUNNING 0" "$(status_of "$container")"
    eventually is "stdout F again" log second
    equal "a b /tmp" "$(inside "$container" 'echo $MODE $PWD')"
    end_pod "$pod"
    equal "" "$(cgroup_folders | grep "$pod" || true)"
}

it_refuses_a_runtime_that_is_not_configured() {
    status 1 cri RunPodSandbox '{"config": {"metadata": {"name": "unknown", "uid": "unknown", "namespace": "test"}}, "runtime_handler": "none-such"}'
    contains none-such "$output"
}

it_shares_the_namespaces_of_a_pod() {
    pod shared '' ', "namespace_options": {"pid": "CONTAINER"}'
    local one two namespace
    container one 'exec sleep 1001' ', "linux": {"security_context": {"namespace_options": {"pid": "CONTAINER"}}}'
    one=$(process_of "$container")
    container two 'exec sleep 1002' ', "linux": {"security_context": {"namespace_options": {"pid": "CONTAINER"}}}'
    two=$(process_of "$container")
    for namespace in net ipc uts; do
        equal "$(readlink "/proc/$one/ns/$namespace")" "$(readlink "/proc/$two/ns/$namespace")"
        differs "$(readlink "/proc/self/ns/$namespace")" "$(readlink "/proc/$one/ns/$namespace")"
    done
    for namespace in mnt pid; do
        differs "$(readlink "/proc/$one/ns/$namespace")" "$(readlink "/proc/$two/ns/$namespace")"
    done
    equal "shared sleep 1002" "$(inside "$container" 'echo $(hostname) $(tr "\0" " " </proc/1/cmdline)')"
    end_pod "$pod"
}

it_shares_the_processes_of_a_pod() {
    pod together '' ', "namespace_options": {"pid": "POD"}'
    container one 'exec sleep 1001' ', "linux": {"security_context": {"namespace_options": {"pid": "POD"}}}'
    container two 'exec sleep 1002' ', "linux": {"security_context": {"namespace_options": {"pid": "POD"}}}'
    contains "sleep 1001" "$(inside "$container" ps)"
    # The end of one is not that of the other.
    cri StopContainer "{\"container_id\": \"$container\"}"
    equal "CONTAINER_EXITED 137" "$(status_of "$container")"
    lacks CONTAINER_EXITED "$(cri ContainerStatus "{\"container_id\": \"$container\"}"; cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}"; text state)"
    end_pod "$pod"
}

it_has_an_address_of_the_pod() {
    pod connected ', "sysctls": {"net.ipv4.ip_forward": "1"}'
    cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}"
    local address
    address=$(text ip)
    matches '^10\.87\.0\.' "$address"
    container web 'echo "a page" >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
    eventually is "a page" curl -s -m 2 "http://$address/"
    contains "inet $address/" "$(inside "$container" 'ip -o address show dev eth0')"
    equal 1 "$(inside "$container" 'cat /proc/sys/net/ipv4/ip_forward')"
    end_pod "$pod"
}

it_shares_the_namespaces_of_the_host() {
    pod host '' ', "namespace_options": {"network": "NODE", "pid": "NODE", "ipc": "NODE"}'
    container one 'exec sleep 1000' ', "linux": {"security_context": {"namespace_options": {"network": "NODE", "pid": "NODE", "ipc": "NODE"}}}'
    local process namespace
    process=$(process_of "$container")
    for namespace in net pid ipc; do
        equal "$(readlink "/proc/self/ns/$namespace")" "$(readlink "/proc/$process/ns/$namespace")"
    done
    end_pod "$pod"
}

it_executes_in_a_container_of_a_pod() {
    pod executed
    container one 'exec sleep 1000'
    cri ExecSync "{\"container_id\": \"$container\", \"cmd\": [\"sh\", \"-c\", \"echo out; echo err >&2; exit 3\"]}"
    equal "out err 3" "$(jq -r '"\(.stdout | rtrimstr("\n")) \(.stderr | rtrimstr("\n")) \(.exit_code)"' <<<"$answer")"
    status 1 cri ExecSync "{\"container_id\": \"$container\", \"cmd\": [\"no-such-command\"]}"
    contains 'exec: "no-such-command": executable file not found in $PATH' "$output"
    status 1 cri ExecSync "{\"container_id\": \"$container\", \"cmd\": [\"sleep\", \"1003\"], \"timeout\": 1}"
    contains "deadline" "$output"
    # It was killed, and it alone.
    equal "" "$(inside "$container" 'pgrep -f "[s]leep 1003" || true')"
    end_pod "$pod"
}

it_executes_with_streams() {
    pod streams
    container one 'exec sleep 1000'
    local options="\"container_id\": \"$container\", \"stdin\": true, \"stdout\": true"
    cri Exec "{$options, \"stderr\": true, \"cmd\": [\"sh\", \"-c\", \"echo ready; read line; echo \$line, and fro; echo err >&2; exit 6\"], \"talk\": [[\"ready\", \"to\n\"]]}"
    equal "ready to, and fro err 6" "$(jq -r '"\(.stdout)\(.stderr)\(.status)"' <<<"$answer" | tr '\n' ' ' | sed 's/ $//')"
    cri Exec "{$options, \"tty\": true, \"size\": [33, 101], \"cmd\": [\"sh\"],
        \"talk\": [[\"# \", \"while test \\\"\$(stty size)\\\" != '33 101'; do usleep 20000; done; echo \$((40 + 2)) on \$(tty)\n\"], [\"42 on /dev/pts/0\", \"exit 3\n\"]]}"
    equal 3 "$(text status)"
    end_pod "$pod"
}

it_attaches_to_a_container_of_a_pod() {
    pod attached
    container one 'while read line; do test $line = end && exit 8; echo "heard $line"; done' ', "stdin": true'
    cri Attach "{\"container_id\": \"$container\", \"stdin\": true, \"stdout\": true, \"stderr\": true, \"talk\": [[\"\", \"a word\n\"], [\"heard a word\", \"end\n\"]]}"
    contains "heard a word" "$(text stdout)"
    eventually is "CONTAINER_EXITED 8" status_of "$container"
    contains "stdout F heard a word" "$(log one)"
    container two 'exec sh' ', "stdin": true, "tty": true'
    cri Attach "{\"container_id\": \"$container\", \"stdin\": true, \"stdout\": true, \"tty\": true, \"talk\": [[\"\", \"tty; exit 9\n\"]]}"
    contains /dev/pts/0 "$(text stdout)"
    eventually is "CONTAINER_EXITED 9" status_of "$container"
    end_pod "$pod"
}

it_shows_statistics_of_a_container() {
    pod measured
    container one 'while :; do :; done'
    local first
    eventually says working_set_bytes eval "cri ContainerStats '{\"container_id\": \"$container\"}'; echo \$answer"
    cri ContainerStats "{\"container_id\": \"$container\"}"
    first=$(jq -r .stats.cpu.usage_core_nano_seconds.value <<<"$answer")
    matches '^[1-9][0-9]*$' "$(jq -r .stats.memory.working_set_bytes.value <<<"$answer")"
    sleep 0.2
    cri ContainerStats "{\"container_id\": \"$container\"}"
    [ "$(jq -r .stats.cpu.usage_core_nano_seconds.value <<<"$answer")" -gt "$first" ] || fail "it used no cpu: $answer"
    end_pod "$pod"
}

it_limits_and_updates_a_container() {
    pod limited
    container one 'exec sleep 1000' ', "linux": {"resources": {"memory_limit_in_bytes": 67108864, "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512}}'
    local group=$CGROUP/$container
    limit "$group" memory/memory.limit_in_bytes=67108864 memory.max=67108864
    limit "$group" cpu/cpu.cfs_quota_us=50000 cpu.max="50000 100000"
    cri UpdateContainerResources "{\"container_id\": \"$container\", \"linux\": {\"memory_limit_in_bytes\": 134217728, \"cpu_period\": 50000, \"cpu_quota\": 20000, \"cpuset_cpus\": \"0\"}}"
    limit "$group" memory/memory.limit_in_bytes=134217728 memory.max=134217728
    limit "$group" cpu/cpu.cfs_quota_us=20000 cpu.max="20000 50000"
    equal 0 "$(inside "$container" 'sed -n "s/^Cpus_allowed_list:.//p" /proc/self/status')"
    end_pod "$pod"
}

it_tells_why_a_container_has_ended() {
    pod ended
    container greedy 'exec dd if=/dev/zero of=/dev/null bs=64M' ', "linux": {"resources": {"memory_limit_in_bytes": 16777216}}'
    eventually is "CONTAINER_EXITED 137" status_of "$container"
    eventually is OOMKilled eval "cri ContainerStatus '{\"container_id\": \"$container\"}'; text reason"
    status 1 container unfound 'true' ', "command": ["no-such-command"]'
    contains 'exec: "no-such-command": executable file not found in $PATH' "$output"
    end_pod "$pod"
}

it_stops_a_container_politely_and_then_not() {
    pod stopped
    container polite 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done'
    eventually says ready log polite
    cri StopContainer "{\"container_id\": \"$container\", \"timeout\": 20}"
    equal "CONTAINER_EXITED 7" "$(status_of "$container")"
    container stubborn 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
    eventually says ready log stubborn
    cri StopContainer "{\"container_id\": \"$container\", \"timeout\": 1}"
    equal "CONTAINER_EXITED 137" "$(status_of "$container")"
    cri RemoveContainer "{\"container_id\": \"$container\"}"
    status 1 cri ContainerStatus "{\"container_id\": \"$container\"}"
    end_pod "$pod"
}

it_confines_a_container_of_a_pod() {
    pod confined
    container one 'exec sleep 1000' ', "linux": {"security_context": {"run_as_user": {"value": 1000}, "run_as_group": {"value": 3000}, "supplemental_groups": [4000],
        "capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_ADMIN"]}, "no_new_privs": true, "readonly_rootfs": true,
        "seccomp": {"profile_type": "RuntimeDefault"}, "masked_paths": ["/proc/timer_list"], "readonly_paths": ["/proc/sys"]}}'
    # Docker's word for the groups is here the user's own in /etc/group, too.
    matches '^1000 3000 (2000 4000|4000 2000)$' "$(inside "$container" 'echo $(id -u) $(id -G)')"
    equal "0000000000001000 1 2" "$(inside "$container" 'echo $(sed -n "s/^\(CapBnd\|NoNewPrivs\|Seccomp\):.//p" /proc/self/status)')"
    equal "" "$(inside "$container" 'cat /proc/timer_list')"
    matches 'proc /proc/sys proc ro,' "$(inside "$container" 'grep " /proc/sys " /proc/mounts')"
    cri ExecSync "{\"container_id\": \"$container\", \"cmd\": [\"touch\", \"/tmp/file\"]}"
    contains "Read-only file system" "$(text stderr)"
    cri ExecSync "{\"container_id\": \"$container\", \"cmd\": [\"unshare\", \"-U\", \"true\"]}"
    contains "Operation not permitted" "$(text stderr)"
    end_pod "$pod"
}

it_mounts_into_a_container_of_a_pod() {
    mkdir -p "$WORK/share/volume"
    mount --bind "$WORK/share/volume" "$WORK/share/volume"
    mount --make-shared "$WORK/share/volume"
    pod mounted
    container one 'exec sleep 1000' ", \"mounts\": [{\"container_path\": \"/volume\", \"host_path\": \"$WORK/share/volume\", \"propagation\": \"PROPAGATION_HOST_TO_CONTAINER\"},
        {\"container_path\": \"/new/etc\", \"host_path\": \"$WORK/rootfs/etc\", \"readonly\": true}]"
    inside "$container" 'echo from within >/volume/note'
    equal "from within" "$(cat "$WORK/share/volume/note")"
    mkdir "$WORK/share/volume/late"
    mount -t tmpfs tmpfs "$WORK/share/volume/late"
    touch "$WORK/share/volume/late/arrived"
    equal arrived "$(inside "$container" 'ls /volume/late')"
    equal 3 "$(inside "$container" 'ls /new/etc | wc -l')"
    cri ExecSync "{\"container_id\": \"$container\", \"cmd\": [\"touch\", \"/new/etc/more\"]}"
    contains "Read-only file system" "$(text stderr)"
    end_pod "$pod"
    umount "$WORK/share/volume/late" "$WORK/share/volume"
}

it_mounts_for_the_host_where_that_is_asked_for() {
    mkdir -p "$WORK/share/both/inside"
    mount --bind "$WORK/share/both" "$WORK/share/both"
    mount --make-shared "$WORK/share/both"
    local privileged='"linux": {"security_context": {"privileged": true}}' options
    # A new mount of cgroup2 in such a pod would change those of the host, as with runc.
    options=$(awk '/ - cgroup2 / { print $NF; exit }' /proc/self/mountinfo)
    pod shares '' ', "privileged": true'
    container one 'exec sleep 1000' ", $privileged, \"mounts\": [{\"container_path\": \"/both\", \"host_path\": \"$WORK/share/both\", \"propagation\": \"PROPAGATION_BIDIRECTIONAL\"}]"
    inside "$container" 'mount -t tmpfs tmpfs /both/inside && touch /both/inside/made'
    equal made "$(ls "$WORK/share/both/inside")"
    inside "$container" 'umount /both/inside'
    equal "" "$(ls "$WORK/share/both/inside")"
    end_pod "$pod"
    equal "$options" "$(awk '/ - cgroup2 / { print $NF; exit }' /proc/self/mountinfo)"
    umount "$WORK/share/both"
}

it_maps_the_users_of_a_pod() {
    [[ $(containerd --version) != *" 1."[0-6].* ]] || skip "this containerd gives pods no user namespaces"
    local map='[{"container_id": 0, "host_id": 100000, "length": 65536}]'
    local options="\"namespace_options\": {\"pid\": \"CONTAINER\", \"userns_options\": {\"mode\": \"POD\", \"uids\": $map, \"gids\": $map}}"
    pod mapped '' ", $options"
    container one 'exec sleep 1000' ", \"linux\": {\"security_context\": {$options}}"
    local process
    process=$(process_of "$container")
    equal 100000 "$(stat -c %u "/proc/$process")"
    equal "0 100000 65536" "$(echo $(cat "/proc/$process/uid_map"))"
    equal "0 0" "$(inside "$container" 'echo $(id -u) $(stat -c %u /etc/passwd)')"
    container two 'exec sleep 1000' ", \"linux\": {\"security_context\": {$options}}"
    equal "$(readlink "/proc/$process/ns/user")" "$(readlink "/proc/$(process_of "$container")/ns/user")"
    end_pod "$pod"
}

it_keeps_pods_while_the_daemon_restarts() {
    pod survivor
    local process answered
    container one 'trap "exit 5" TERM; while :; do sleep 0.1; done'
    process=$(process_of "$container")
    stop_daemon "$(cat "$WORK/containerd.pid")"
    start_containerd
    eventually cri ListPodSandbox '{}'
    cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}"
    equal SANDBOX_READY "$(text state)"
    equal "$process" "$(process_of "$container")"
    equal hello "$(inside "$container" 'echo hello')"
    cri StopContainer "{\"container_id\": \"$container\", \"timeout\": 20}"
    equal "CONTAINER_EXITED 5" "$(status_of "$container")"
    end_pod "$pod"
}
