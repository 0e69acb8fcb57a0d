// Loaded into a warren-node that runs under valgrind, to say when it is to write what it has counted: valgrind's own remote
// control does not survive that the daemon changes its user. A thread of its own, which the daemon's never meet, takes orders:
//
//   dump NAME         callgrind writes what it has counted since the last dump, of all threads, and begins at zero
//   monitor COMMAND   one of valgrind's monitor commands
//
// Each is answered when it is done.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

static int channel;

static void *serve(void *nothing) {
    char text[256];
    ssize_t count;
    while ((count = recv(channel, text, sizeof text - 1, 0)) > 0) {
        text[count] = 0;
        if (strncmp(text, "dump ", 5) == 0) CALLGRIND_DUMP_STATS_AT(text + 5);
        if (strncmp(text, "monitor ", 8) == 0) VALGRIND_MONITOR_COMMAND(text + 8);
        send(channel, "done", 4, MSG_NOSIGNAL);
    }
    return nothing;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WARREN_GAUGE");
    // Also loaded into what starts the daemon.
    if (path == NULL || strcmp(program_invocation_short_name, "warren-node") != 0) return;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_t thread;
    if (connect(channel, (struct sockaddr *)&address, sizeof address) != 0 ||
        pthread_create(&thread, NULL, serve, NULL) != 0) {
        perror(path);
        _exit(1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
