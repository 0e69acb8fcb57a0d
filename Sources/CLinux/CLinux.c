#define _GNU_SOURCE
#include "CLinux.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/tcp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int clinux_socket(int family, int type, int protocol) {
  return socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
}

int clinux_accept4(int fd, void *address, unsigned *length, int flags) {
  return accept4(fd, (struct sockaddr *)address, length, flags);
}

int clinux_bind(int fd, const void *address, unsigned length) {
  return bind(fd, (const struct sockaddr *)address, length);
}

int clinux_connect(int fd, const void *address, unsigned length) {
  return connect(fd, (const struct sockaddr *)address, length);
}

int clinux_getsockname(int fd, void *address, unsigned *length) {
  return getsockname(fd, (struct sockaddr *)address, length);
}

int clinux_getpeername(int fd, void *address, unsigned *length) {
  return getpeername(fd, (struct sockaddr *)address, length);
}

ssize_t clinux_recvfrom(int fd, void *bytes, size_t count, int flags, void *address, unsigned *length) {
  return recvfrom(fd, bytes, count, flags, (struct sockaddr *)address, length);
}

ssize_t clinux_sendto(int fd, const void *bytes, size_t count, int flags, const void *address, unsigned length) {
  return sendto(fd, bytes, count, flags, (const struct sockaddr *)address, length);
}

int clinux_peer_credentials(int fd, uint32_t *uid, uint32_t *gid, int32_t *pid) {
  struct ucred peer = {0};
  socklen_t length = sizeof peer;
  int result = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
  *uid = peer.uid, *gid = peer.gid, *pid = peer.pid;
  return result;
}

uint32_t clinux_tcp_min_rtt(int fd) {
  struct tcp_info info = {.tcpi_min_rtt = UINT32_MAX};
  socklen_t length = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_min_rtt : UINT32_MAX;
}

int clinux_netlink_bind(int fd) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  return bind(fd, (struct sockaddr *)&address, sizeof address);
}

int clinux_netlink_join(int fd, unsigned group) {
  return setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
}

int clinux_netlink_explain(int fd) {
  int on = 1;
  return setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) |
         setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
}

ssize_t clinux_netlink_receive(int fd, void *bytes, size_t count, unsigned *sender) {
  struct sockaddr_nl address = {0};
  socklen_t length = sizeof address;
  ssize_t result = recvfrom(fd, bytes, count, MSG_TRUNC, (struct sockaddr *)&address, &length);
  *sender = address.nl_pid;
  return result;
}

int clinux_pipe2(int ends[2], int flags) { return pipe2(ends, flags); }

int clinux_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }

int clinux_open(const char *path, int flags, unsigned mode) { return open(path, flags | O_CLOEXEC, mode); }

ssize_t clinux_splice(int from, int to, size_t count, unsigned flags) {
  return splice(from, NULL, to, NULL, count, flags);
}

int clinux_ioctl(int fd, unsigned long request, unsigned long argument) { return ioctl(fd, request, argument); }

int clinux_setns(int fd, int kind) { return setns(fd, kind); }

int clinux_unshare(int kinds) { return unshare(kinds); }

int clinux_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_waitid_pidfd(int pidfd, int options, int *code, int *status) {
  siginfo_t info = {0};
  int result = waitid(P_PIDFD, (id_t)pidfd, &info, options);
  *code = info.si_pid == 0 ? 0 : info.si_code, *status = info.si_status;
  return result;
}

int clinux_pidfd_send_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int clinux_prctl(int operation, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  return prctl(operation, a, b, c, d);
}

int clinux_capget(uint64_t *effective, uint64_t *permitted, uint64_t *inheritable) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  int result = (int)syscall(SYS_capget, &header, data);
  *effective = data[0].effective | (uint64_t)data[1].effective << 32;
  *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
  *inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
  return result;
}

int clinux_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {
      {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
      {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
  };
  return (int)syscall(SYS_capset, &header, data);
}

// glibc's wrappers, not the bare system calls: they change the identity of every thread of the process.
int clinux_setresuid(uint32_t real, uint32_t effective, uint32_t saved) { return setresuid(real, effective, saved); }

int clinux_setresgid(uint32_t real, uint32_t effective, uint32_t saved) { return setresgid(real, effective, saved); }

int clinux_setgroups_none(void) { return setgroups(0, NULL); }

int clinux_set_thread_name(const char *name) { return pthread_setname_np(pthread_self(), name); }

size_t clinux_allocated_bytes(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

size_t clinux_free_bytes(void) { return mallinfo2().fordblks; }
void clinux_trim(void) { malloc_trim(0); }

ssize_t clinux_getrandom(void *bytes, size_t count) { return getrandom(bytes, count, 0); }

const unsigned long CLINUX_NS_GET_NSTYPE = NS_GET_NSTYPE;
const unsigned long CLINUX_NS_GET_USERNS = NS_GET_USERNS;
const int CLINUX_CLONE_NEWNET = CLONE_NEWNET;
const unsigned CLINUX_SPLICE_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
const int CLINUX_O_PATH = O_PATH;
