// What Swift cannot import from libc: variadics, transparent unions, GNU extensions. One line each, no logic.
// No _GNU_SOURCE here: it would give this module other definitions of libc's types than Swift's Glibc module has.
#pragma once

#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/types.h>

// Sockets.
int clinux_socket(int family, int type, int protocol);
int clinux_accept4(int fd, void *address, unsigned *length, int flags);
int clinux_bind(int fd, const void *address, unsigned length);
int clinux_connect(int fd, const void *address, unsigned length);
int clinux_getsockname(int fd, void *address, unsigned *length);
int clinux_getpeername(int fd, void *address, unsigned *length);
ssize_t clinux_recvfrom(int fd, void *bytes, size_t count, int flags, void *address, unsigned *length);
ssize_t clinux_sendto(int fd, const void *bytes, size_t count, int flags, const void *address, unsigned length);
int clinux_peer_credentials(int fd, uint32_t *uid, uint32_t *gid, int32_t *pid);
uint32_t clinux_tcp_min_rtt(int fd);

// Netlink.
int clinux_netlink_bind(int fd);
int clinux_netlink_join(int fd, unsigned group);
int clinux_netlink_explain(int fd);
ssize_t clinux_netlink_receive(int fd, void *bytes, size_t count, unsigned *sender);

// Descriptors.
int clinux_pipe2(int ends[2], int flags);
int clinux_fcntl(int fd, int command, int argument);
int clinux_open(const char *path, int flags, unsigned mode);
ssize_t clinux_splice(int from, int to, size_t count, unsigned flags);
int clinux_ioctl(int fd, unsigned long request, unsigned long argument);

// Namespaces, processes, privileges.
int clinux_setns(int fd, int kind);
int clinux_unshare(int kinds);
int clinux_pidfd_open(int pid);
int clinux_waitid_pidfd(int pidfd, int options, int *code, int *status);
int clinux_pidfd_send_signal(int pidfd, int signal);
int clinux_prctl(int operation, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int clinux_capget(uint64_t *effective, uint64_t *permitted, uint64_t *inheritable);
int clinux_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable);
int clinux_setresuid(uint32_t real, uint32_t effective, uint32_t saved);
int clinux_setresgid(uint32_t real, uint32_t effective, uint32_t saved);
int clinux_setgroups_none(void);
int clinux_set_thread_name(const char *name);
ssize_t clinux_getrandom(void *bytes, size_t count);
size_t clinux_allocated_bytes(void);
size_t clinux_free_bytes(void);
void clinux_trim(void);

// Constants that are macros with casts, or hidden behind _GNU_SOURCE.
extern const unsigned long CLINUX_NS_GET_NSTYPE;
extern const unsigned long CLINUX_NS_GET_USERNS;
extern const int CLINUX_CLONE_NEWNET;
extern const unsigned CLINUX_SPLICE_FLAGS;
extern const int CLINUX_O_PATH;
