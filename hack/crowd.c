/* crowd - runs commands at once and says how many nanoseconds passed until the last had ended.
 *
 *   crowd FD COMMAND ARG... -- COMMAND ARG... -- ...
 *
 * Says so to that descriptor, which the commands do not get.
 *
 * A program as small as this, because where all processors are busy the time that the caller takes is missing to whom
 * it calls.  The status is 1 when a command has failed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "usage: crowd FD COMMAND ARG... -- ...\n"), 2;
    int left = 0, failed = 0, status, answer = atoi(argv[1]);
    fcntl(answer, F_SETFD, FD_CLOEXEC);
    long long begin = now();
    for (int at = 2; at < argc; at++) {
        char **command = argv + at;
        pid_t pid;
        while (at < argc && strcmp(argv[at], "--"))
            at++;
        argv[at] = 0;
        if (posix_spawn(&pid, command[0], 0, 0, command, environ))
            failed++;
        else
            left++;
    }
    while (left-- > 0)
        if (wait(&status) < 0 || status)
            failed++;
    dprintf(answer, "%lld\n", now() - begin);
    return failed > 0;
}
