# Cases: pods, made by hand and from Kubernetes' files.

it_runs_the_containers_of_a_pod_together() {
    podman pod create --cgroup-parent "$CGROUP" --name pod --share pid,ipc,uts,net >/dev/null
    podman run -d --pod pod --name first busybox sleep 1001 >/dev/null
    podman run -d --pod pod --name second --memory 64m busybox sleep 1002 >/dev/null
    contains "sleep 1001" "$(podman exec second ps)"
    local namespace
    for namespace in ipc uts net; do
        equal "$(podman exec first readlink /proc/self/ns/$namespace)" "$(podman exec second readlink /proc/self/ns/$namespace)"
    done
    equal "Running 3" "$(podman pod ps --filter name=pod --format '{{.Status}} {{.NumberOfContainers}}')"
    contains "sleep 1002" "$(podman pod top pod args)"
    matches '^second [0-9.]+[kM]B / 67.11MB$' "$(podman pod stats --no-stream --format '{{.Name}} {{.MemUsage}}' pod | grep ^second)"
    podman pod stop -t 0 pod >/dev/null
    equal "exited 137" "$(field first '.State.Status}} {{.State.ExitCode')"
    podman pod start pod >/dev/null
    equal "sleep 1001 " "$(tr '\0' ' ' <"/proc/$(field first .State.Pid)/cmdline")"
    podman pod rm -f -t 0 pod >/dev/null
}

it_pauses_a_pod() {
    podman pod create --cgroup-parent "$CGROUP" --name still >/dev/null
    podman run -d --pod still --name held busybox sleep 1000 >/dev/null
    podman pod pause still >/dev/null
    equal paused "$(field held .State.Status)"
    podman pod unpause still >/dev/null
    equal running "$(field held .State.Status)"
    podman pod rm -f -t 0 still >/dev/null
}

it_plays_a_file_of_kubernetes() {
    mkdir -p "$WORK/share/site"
    cat >"$WORK/tmp/fleet.yaml" <<END
apiVersion: v1
kind: ConfigMap
metadata: { name: harbour }
data: { AUTHOR: kubernetes }
---
apiVersion: v1
kind: Pod
metadata: { name: fleet }
spec:
  hostname: flagship
  restartPolicy: Never
  containers:
  - name: web
    image: localhost/busybox
    imagePullPolicy: Never
    command: [/bin/sh, -c, 'echo "by \$AUTHOR" >/site/index.html; exec httpd -f -p 8080 -h /site']
    envFrom: [ { configMapRef: { name: harbour } } ]
    resources: { limits: { memory: 64Mi } }
    volumeMounts: [ { name: site, mountPath: /site } ]
  - name: client
    image: localhost/busybox
    imagePullPolicy: Never
    command: [/bin/sh, -c, 'until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; echo \$(id -u) \$(hostname); exec sleep 1000']
    securityContext: { runAsUser: 1000, readOnlyRootFilesystem: true }
  volumes:
  - name: site
    hostPath: { path: $WORK/share/site, type: Directory }
END
    podman kube play --network none "$WORK/tmp/fleet.yaml"
    eventually says "1000 flagship" podman logs fleet-client
    contains "by kubernetes" "$(podman logs fleet-client)"
    equal "by kubernetes" "$(cat "$WORK/share/site/index.html")"
    status 1 podman exec fleet-client /bin/touch /file
    contains "Read-only file system" "$output"
    local file=memory.max
    [ $CGROUP_VERSION = 2 ] || file=memory/memory.limit_in_bytes
    equal 67108864 "$(podman exec fleet-web /bin/cat /sys/fs/cgroup/$file)"
    # What runs is told as such a file again.
    contains "mountPath: /site" "$(podman kube generate fleet)"
    podman kube down "$WORK/tmp/fleet.yaml"
    equal "" "$(podman pod ps -q --filter name=fleet)"
}
