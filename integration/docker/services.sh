# Cases: what is built upon single containers (compose, a swarm, a registry), and
# daemons that come and go.

it_composes_services() {
    local file=$WORK/tmp/compose.yaml
    cat >"$file" <<'END'
services:
  web:
    image: busybox
    container_name: web
    command: sh -c 'echo "by $$AUTHOR" >/site/index.html; exec httpd -f -p 80 -h /site'
    environment: { AUTHOR: compose }
    init: true
    mem_limit: 64m
    volumes: [ "site:/site" ]
    healthcheck: { test: wget -q -O - http://127.0.0.1/, interval: 200ms, retries: 30 }
  client:
    image: busybox
    container_name: client
    command: sh -c 'wget -q -O - http://web/; exec sleep 1000'
    init: true
    depends_on: { web: { condition: service_healthy } }
volumes: { site: {} }
END
    docker-compose -p fleet -f "$file" up -d
    # The healthy one was waited for, and is known by its name.
    eventually is "by compose" docker logs client
    limit "$(group web)" memory/memory.limit_in_bytes=67108864 memory.max=67108864
    status 7 docker-compose -p fleet -f "$file" exec -T web sh -c 'echo kept >/site/kept; exit 7'
    docker-compose -p fleet -f "$file" restart -t 0 web
    # Its volume and network are as they were.
    eventually is kept docker exec client wget -q -O - http://web/kept
    docker-compose -p fleet -f "$file" down -t 0 -v
    equal "" "$(docker ps -aq --filter label=com.docker.compose.project=fleet)"
    equal "" "$(docker network ls -q --filter name=fleet)$(docker volume ls -q --filter name=fleet)"
}

# Each running task of the service, by what its container is called.
tasks() {
    docker ps -q --filter label=com.docker.swarm.service.name="$1"
}

it_runs_a_service_of_a_swarm_with_replicas() {
    docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null
    docker service create --detach --no-resolve-image --name fleet --replicas 3 --restart-delay 0s --stop-grace-period 0s \
        --limit-memory 64m --env TASK='{{.Task.Slot}}' busybox sh -c 'echo "task $TASK"; exec sleep 1000' >/dev/null
    eventually is 3 eval 'tasks fleet | wc -l'
    eventually says "3/3" docker service ls
    equal "task 1 task 2 task 3 " "$(for task in $(tasks fleet); do docker logs "$task"; done | sort | tr '\n' ' ')"
    local first
    first=$(tasks fleet | head -n 1)
    limit "$(group "$first")" memory/memory.limit_in_bytes=67108864 memory.max=67108864
    # One that dies has a successor.
    docker kill "$first" >/dev/null
    eventually is 3 eval "tasks fleet | grep -c -v $first"
    docker service scale --detach fleet=1 >/dev/null
    eventually is 1 eval 'tasks fleet | wc -l'
    docker service rm fleet >/dev/null
    eventually is "" tasks fleet
    docker swarm leave --force >/dev/null
}

# start_registry ADDRESS : one that speaks TLS, and knows one user.
start_registry() {
    local folder=$WORK/registry
    mkdir -p "$folder"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=registry \
        -addext "subjectAltName=IP:${1%:*}" -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
    htpasswd -Bbc -C 4 "$folder/passwords" harbour "the password"
    cat >"$folder/config.yml" <<END
version: 0.1
storage: { filesystem: { rootdirectory: $folder/data } }
http:
  addr: $1
  secret: of-one-registry
  tls: { certificate: $folder/cert.pem, key: $folder/key.pem }
auth: { htpasswd: { realm: harbour, path: $folder/passwords } }
END
    docker-registry serve "$folder/config.yml" >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
    eventually curl -s -m 2 --cacert "$folder/cert.pem" "https://$1/v2/"
}

it_pushes_to_and_pulls_from_a_registry_with_a_password() {
    # Docker trusts what is at 127.0.0.0/8 blindly.
    local registry=192.0.2.1:5000 name=192.0.2.1:5000/pier/busybox:1
    ip address add 192.0.2.1/32 dev lo
    start_registry $registry
    docker tag busybox $name
    status 1 docker login -u harbour -p "the password" $registry
    contains "certificate signed by unknown authority" "$output"
    mkdir -p /etc/docker/certs.d/$registry
    cp "$WORK/registry/cert.pem" /etc/docker/certs.d/$registry/ca.crt
    status 1 docker push $name
    contains "no basic auth credentials" "$output"
    status 1 docker login -u harbour -p "another password" $registry
    contains unauthorized "${output,,}"
    echo "the password" | docker login -u harbour --password-stdin $registry
    docker push -q $name
    docker rmi $name
    # run pulls what is not there.
    equal pulled "$(docker run --rm $name echo pulled)"
    docker rmi $name
    docker logout $registry
    status 125 docker run --rm $name true
    contains "no basic auth credentials" "$output"
    stop_daemon "$(cat "$WORK/registry/pid")"
    ip address del 192.0.2.1/32 dev lo
}

it_goes_on_running_while_the_daemon_restarts() {
    # Its own bridge, for the first daemon holds docker0.
    ip link add live0 type bridge
    ip address add 172.30.0.1/24 dev live0
    start_docker live --live-restore --bridge live0
    ticking --name survivor
    docker run -d --name mortal busybox sh -c 'while ! test -e /end; do sleep 0.1; done; exit 9' >/dev/null
    local pid end tick
    eventually docker exec survivor test -e /tick
    pid=$(field survivor .State.Pid)
    end=/proc/$(field mortal .State.Pid)/root/end
    tick=/proc/$pid/root/tick
    stop_daemon "$(cat "$WORK/live.pid")"
    local before
    before=$(cat "$tick")
    touch "$end"
    # It goes on, without a daemon.
    eventually eval '[ "$(cat $tick)" -gt "$before" ]'
    start_docker live --live-restore --bridge live0
    equal "running $pid" "$(field survivor '.State.Status}} {{.State.Pid')"
    docker exec survivor test -e /tick
    # What has ended meanwhile is told, with its status; later Dockers have lost that.
    matches '^exited (9|255)$' "$(field mortal '.State.Status}} {{.State.ExitCode')"
    docker stop -t 0 survivor >/dev/null
    equal "exited 137" "$(field survivor '.State.Status}} {{.State.ExitCode')"
    remove survivor mortal
    equal "" "$(find "$WORK"/live.exec/runtime-*/moby* -mindepth 1)"
    stop_daemon "$(cat "$WORK/live.pid")"
}
