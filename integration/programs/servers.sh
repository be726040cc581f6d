# Servers and an interpreter, each alone in a container, as images have them.

# fetch NAME URL : what a client in the container gets.
fetch() {
    inside "$1" python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "$2"
}

# A client outside the container, in whichever network namespace it is started in.
REQUEST='exec 3<>/dev/tcp/127.0.0.1/80 && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3'

it_nginx_answers_on_the_loopback_of_its_own_network_and_reloads() {
    bundle nginx . nginx -g 'daemon off;'
    launch nginx
    eventually says 'Welcome to nginx' fetch nginx http://127.0.0.1/
    local pid
    pid=$(oci state nginx | jq .pid)
    contains 'HTTP/1.1 200 OK' "$(nsenter --target "$pid" --net bash -c "$REQUEST")"
    status 1 bash -c "$REQUEST"
    contains 'Connection refused' "$output"
    # The master is root, its workers are not.
    inside nginx pgrep --uid www-data nginx
    # It listens on another port as soon as it has read its configuration again.
    status 1 fetch nginx http://127.0.0.1:8080/
    echo 'server { listen 127.0.0.1:8080; return 200 "reloaded"; }' >"$rootfs/etc/nginx/conf.d/more.conf"
    oci kill nginx HUP
    eventually is reloaded fetch nginx http://127.0.0.1:8080/
    ends nginx QUIT 0
    contains '"GET / HTTP/1.0" 200' "$(cat "$rootfs/var/log/nginx/access.log")"
}

it_redis_keeps_its_data_on_a_volume_under_a_read_only_root() {
    local user
    user=$(user_of redis)
    mkdir "$WORK/data"
    chown "$user" "$WORK/data"
    bundle redis '.root.readonly = true
        | .process += {user: {uid: '"${user%:*}"', gid: '"${user#*:}"'}, noNewPrivileges: true, capabilities: {}}
        | .linux.resources += {memory: {limit: 134217728}, pids: {limit: 64}}
        | .mounts += [{destination: "/var/lib/redis", type: "bind", source: ($work + "/data"), options: ["rbind", "rw"]}]' \
        redis-server --dir /var/lib/redis --appendonly yes
    launch redis
    eventually is PONG inside redis redis-cli ping
    equal OK "$(inside redis redis-cli set ship orlop)"
    equal 3 "$(inside redis redis-cli rpush decks upper gun orlop)"
    limit "$CGROUP/redis" memory/memory.limit_in_bytes=134217728 memory.max=134217728
    limit "$CGROUP/redis" pids/pids.max=64 pids.max=64
    # A child writes the snapshot while the server goes on.
    contains 'Background saving started' "$(inside redis redis-cli bgsave)"
    eventually test -s "$WORK/data/dump.rdb"
    equal "$user" "$(stat -c %u:%g "$WORK/data/dump.rdb")"
    ends redis TERM 0
    launch redis
    eventually is PONG inside redis redis-cli ping
    equal orlop "$(inside redis redis-cli get ship)"
    equal $'upper\ngun\norlop' "$(inside redis redis-cli lrange decks 0 -1)"
    ends redis TERM 0
}

it_mariadb_answers_and_has_what_was_committed_before_it_was_killed() {
    local user
    user=$(user_of mysql)
    bundle mariadb '.process += {user: {uid: '"${user%:*}"', gid: '"${user#*:}"'}}' \
        mariadbd --socket=/tmp/mysqld.sock --pid-file=/tmp/mysqld.pid
    launch mariadb
    eventually is 42 sql mariadb 'SELECT 6 * 7'
    sql mariadb 'CREATE DATABASE fleet;
        CREATE TABLE fleet.ships (name VARCHAR(20) PRIMARY KEY, guns INT) ENGINE = InnoDB;
        INSERT INTO fleet.ships VALUES ("Victory", 104), ("Surprise", 28)'
    ends mariadb KILL 137
    launch mariadb
    eventually is $'Surprise\t28\nVictory\t104' sql mariadb 'SELECT * FROM fleet.ships ORDER BY name'
    ends mariadb TERM 0
    contains 'Shutdown complete' "$(cat "$WORK/bundles/mariadb/log")"
}

# sql NAME STATEMENTS
sql() {
    inside "$1" mariadb --socket=/tmp/mysqld.sock --batch --skip-column-names --execute "$2"
}

it_python_has_threads_subprocesses_multiprocessing_and_sqlite() {
    bundle python . python3 /srv/program.py
    cp "$HERE/program.py" "$rootfs/srv/"
    launch python
    eventually test -S "$rootfs/srv/ready"
    ends python TERM 5
    equal 'threads 4950
subprocess programs
fork [0, 1, 4, 9]
spawn [0, 1, 4, 9]
shared 400
sqlite Surprise 28, Victory 104
address 127.0.0.1
terminated' "$(cat "$WORK/bundles/python/log")"
}
