# Cases: images built by Buildah, which calls the runtime without conmon.

# build_with_buildah OPTION... : with the runtime, in the suite's cgroup.
build_with_buildah() {
    buildah bud -q --isolation oci --runtime "$RUNTIME" --cgroup-parent "$CGROUP/build" "$@"
}

it_builds_with_buildah() {
    mkdir -p "$WORK/buildah"
    cat >"$WORK/buildah/Containerfile" <<'END'
FROM localhost/busybox AS first
ARG WORD
RUN echo "built $WORD by $(id -u) in $PWD" >/built
FROM localhost/busybox
COPY --from=first /built /built
RUN --mount=type=tmpfs,target=/scratch touch /scratch/file && grep -q ' /scratch tmpfs' /proc/mounts
USER app
WORKDIR /home/app
RUN test "$(id -un)" = app && echo mine >note
CMD cat /built note
END
    build_with_buildah --build-arg WORD=well -t built "$WORK/buildah"
    equal "built well by 0 in / mine " "$(run --rm localhost/built | tr '\n' ' ')"
    podman rmi localhost/built >/dev/null
    printf 'FROM localhost/busybox\nRUN exit 23\n' >"$WORK/buildah/Failing"
    status 23 build_with_buildah -f "$WORK/buildah/Failing" "$WORK/buildah"
    contains "exit status 23" "$output"
}

it_runs_in_a_working_container_of_buildah() {
    local name options=(--isolation oci --runtime "$RUNTIME")
    name=$(buildah from --cgroup-parent "$CGROUP/build" localhost/busybox)
    buildah run "${options[@]}" "$name" sh -c 'echo kept >/page'
    equal "kept 1000" "$(echo $(buildah run "${options[@]}" --user app "$name" sh -c 'cat /page; id -u'))"
    equal PIPED "$(echo piped | buildah run "${options[@]}" "$name" tr a-z A-Z)"
    contains /dev/pts/0 "$(on_terminal "buildah run ${options[*]} -t $name tty" </dev/null)"
    status 7 buildah run "${options[@]}" "$name" sh -c 'exit 7'
    buildah commit -q "$name" localhost/page >/dev/null
    equal kept "$(run --rm localhost/page cat /page)"
    buildah rm "$name" >/dev/null
    podman rmi localhost/page >/dev/null
}
