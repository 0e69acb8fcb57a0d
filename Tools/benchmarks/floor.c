// The floor: what a pair of per-node proxies costs when it does nothing but what no pair can leave out.
//
//   floor accept [--seal | --transparent] NETNS=ADDRESS:PORT...
//                                          takes captured connections in these namespaces, each one's over one tunnel
//   floor deliver [--seal] NETNS...        ends tunnels in these namespaces and dials the applications there
//   floor join CLIENT-NETNS SERVER-NETNS   joins both ends without a tunnel, as within one node
//
// It has the sockets of a mesh (redirected connections, a tunnel, connections to applications under the client's address) and
// the calls that move bytes between them, on one thread: no HTTP/2, policy, log, metric or window, and encryption only with
// --seal (AES-128-GCM in records of 16 KiB, with a key that is no secret). Connections come redirected, or with --transparent under
// the address that they are for (tproxy), which takes no connection tracking. Tools/bench sets a mesh's costs beside it. It
// trusts everybody and stops reading a tunnel while one of its streams is slow: it is no proxy to use.
//
// As in warren-node one turn gathers the frames of all that is ready and sends them with one call. It moves 2 MiB for a namespace,
// for more at a time costs less (measured: 512 KiB a third more CPU), and 128 KiB while another one moves something too.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <intel-ipsec-mb.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CAPTURED_PORT = 15001, TUNNEL_PORT = 15008, MARK = 0x539 };
enum { POD_LIMIT = 8, STREAM_LIMIT = 16384, EVENTS = 256 };
enum { SHARE = 2 << 20, SHARED = 128 << 10, PIPE = 1 << 20, SPLICED_FROM = 32 << 10, RECORD = 16 << 10, TAG = 16 };
// A turn's reads, and the frames without content that come beside them; with more than CROWDED of those nothing is read.
enum { CROWDED = 128 << 10, ROOM = SHARE + 2 * CROWDED, SEALED_ROOM = ROOM + ROOM / RECORD * 32 + 64 };

// What precedes bytes in a tunnel. OPEN is followed by two addresses, END and RESET by nothing.
struct frame { uint32_t id, length, kind; };
enum frame_kind { OPEN, DATA, END, RESET };
struct addresses { struct sockaddr_in from, to; };

// What epoll knows by a pointer begins with this.
struct source { enum { LISTENER, TUNNEL, STREAM } kind; int fd; };

// An application's connection. Over a tunnel its other end is a stream of that; within a node it is `other`.
struct stream {
    struct source source;
    struct pod *pod;
    struct tunnel *tunnel;
    struct stream *other, *next;
    uint32_t id;
    bool waits, hung_up;          // is in the pod's queue; has said that nothing follows what is there
    bool ended, finished, dead;   // its end was passed on; the other end's was; it is closed and to be freed
    bool watches_writing;
    uint8_t *backlog;             // what it has not taken yet, within a node: in memory or in a pipe
    size_t backlog_start, backlog_end, piped;
    int pipe[2];
};

// A buffer with bytes from `start` to `end`.
struct bytes { uint8_t *at; size_t start, end; };

struct tunnel {
    struct source source;
    struct pod *pod;
    struct stream *streams[STREAM_LIMIT];
    uint32_t next_id;
    struct bytes gathered, sealed;    // frames of this turn; the same as records, with --seal
    struct bytes arrived, opened;     // what was received; the same without --seal
    uint64_t sent_records, received_records;
    struct frame frame;               // whose content is being delivered, and how much of it is still to come
    size_t rest;
    struct stream *slow;              // which takes no more, so that nothing behind it is delivered
    bool is_readable, is_blocked;
};

struct pod {
    struct source listener;
    int namespace;
    struct sockaddr_in peer;          // where its tunnel goes
    struct pod *target;               // where its connections are dialled, within a node
    struct tunnel *tunnel;
    struct stream *first, **last;     // who has something to read, in order
    size_t left;                      // of its share of this turn
};

static struct pod pods[POD_LIMIT];
static struct tunnel *tunnels[POD_LIMIT * 4];
static unsigned pod_count, tunnel_count;
static int epoll, entered = -1;
static enum { ACCEPT, DELIVER, JOIN } role;
static bool seals, is_transparent;
static uint8_t scratch[SHARE];
static IMB_MGR *aes;
static struct gcm_key_data key;

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void require(bool condition, const char *what) {
    if (!condition) fail(what);
}

static void set(int fd, int level, int option, int value) {
    require(setsockopt(fd, level, option, &value, sizeof value) == 0, "setsockopt");
}

// Nothing on one machine has to be paced, and BBR's timers cost much. New sockets of a listener inherit it.
static void do_not_pace(int fd, const char *name) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name)) != 0) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

static void watch(struct source *source, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    require(epoll_ctl(epoll, operation, source->fd, &event) == 0, "epoll_ctl");
}

// Moves the thread into a namespace, where it stays until it is needed in another.
static void enter(int namespace) {
    if (namespace == entered) return;
    require(setns(namespace, CLONE_NEWNET) == 0, "setns");
    entered = namespace;
}

// ---- Streams

// In the queue of those that have something to read, each once.
static void queue(struct stream *stream) {
    if (stream->waits) return;
    stream->waits = true;
    stream->next = NULL;
    *stream->pod->last = stream;
    stream->pod->last = &stream->next;
}

static struct stream *make_stream(int fd, struct pod *pod) {
    struct stream *stream = calloc(1, sizeof *stream);
    require(stream != NULL, "calloc");
    *stream = (struct stream){.source = {STREAM, fd}, .pod = pod, .pipe = {-1, -1}};
    return stream;
}

// Closes it; events of this turn and the queue may still name it, so it is freed when it comes up there.
static void close_stream(struct stream *stream) {
    if (stream->dead) return;
    stream->dead = true;
    close(stream->source.fd);
    if (stream->pipe[0] >= 0) close(stream->pipe[0]), close(stream->pipe[1]);
    free(stream->backlog);
    if (stream->tunnel) {
        stream->tunnel->streams[stream->id % STREAM_LIMIT] = NULL;
        // What waited behind it is looked at in the next turn.
        if (stream->tunnel->slow == stream) stream->tunnel->slow = NULL, stream->tunnel->is_readable = true;
    }
    queue(stream);
}

// The same, so that its peer reads ECONNRESET.
static void reset_stream(struct stream *stream) {
    if (!stream->dead) setsockopt(stream->source.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close_stream(stream);
}

static void watch_writing(struct stream *stream) {
    if (stream->watches_writing) return;
    stream->watches_writing = true;
    watch(&stream->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, EPOLL_CTL_MOD);
}

// Connects from inside a pod under somebody else's address. The handshake is over when the call returns, though it may say
// EINPROGRESS; what is sent before it is over waits, and the first send tells if it failed.
static int dial(struct pod *pod, const struct addresses *addresses) {
    enter(pod->namespace);
    struct sockaddr_in from = addresses->from;
    from.sin_port = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    require(fd >= 0, "socket");
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    do_not_pace(fd, "reno");
    set(fd, SOL_SOCKET, SO_MARK, MARK);
    set(fd, SOL_IP, IP_TRANSPARENT, 1);
    set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    require(bind(fd, (struct sockaddr *)&from, sizeof from) == 0, "bind");
    if (connect(fd, (struct sockaddr *)&addresses->to, sizeof addresses->to) == 0 || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

// ---- Sending into a tunnel

static void frame(struct tunnel *tunnel, uint32_t id, enum frame_kind kind, const void *content, size_t length) {
    struct frame head = {id, length, kind};
    require(tunnel->gathered.end + sizeof head + length <= ROOM, "a turn's frames without content");
    memcpy(tunnel->gathered.at + tunnel->gathered.end, &head, sizeof head);
    memcpy(tunnel->gathered.at + tunnel->gathered.end + sizeof head, content, length);
    tunnel->gathered.end += sizeof head + length;
}

static void break_stream(struct stream *stream) {
    if (stream->tunnel) frame(stream->tunnel, stream->id, RESET, "", 0);
    else reset_stream(stream->other);
    close_stream(stream);
}

// A record: its length, the sealed bytes, their tag. Its number is the nonce.
static void seal(struct tunnel *tunnel) {
    struct bytes *from = &tunnel->gathered, *to = &tunnel->sealed;
    while (from->start < from->end) {
        uint32_t length = from->end - from->start < RECORD ? from->end - from->start : RECORD, whole = length + TAG;
        uint8_t nonce[12] = {0}, *head = to->at + to->end, *content = head + sizeof whole;
        struct gcm_context_data context;
        memcpy(nonce, &tunnel->sent_records, 8), tunnel->sent_records++;
        memcpy(head, &whole, sizeof whole);
        IMB_AES128_GCM_ENC(aes, &key, &context, content, from->at + from->start, length, nonce, head, sizeof whole, content + length, TAG);
        from->start += length;
        to->end += sizeof whole + whole;
    }
    from->start = from->end = 0;
}

// What was gathered, with one call; what the socket does not take goes first next time.
static void flush(struct tunnel *tunnel) {
    struct bytes *out = seals ? &tunnel->sealed : &tunnel->gathered;
    while (!tunnel->is_blocked) {
        if (seals && out->end == 0) seal(tunnel);
        if (out->end == 0) return;
        ssize_t count = send(tunnel->source.fd, out->at + out->start, out->end - out->start, MSG_NOSIGNAL);
        require(count >= 0 || errno == EAGAIN, "the tunnel");
        if (count > 0) out->start += count;
        tunnel->is_blocked = out->start < out->end;
        if (!tunnel->is_blocked) out->start = out->end = 0;
    }
}

// The end of what a stream's application sends.
static void pass_end(struct stream *stream) {
    if (stream->ended) return;
    stream->ended = true;
    frame(stream->tunnel, stream->id, END, "", 0);
    if (stream->finished) close_stream(stream);
}

// Reads once, straight behind room for the frame's header. Returns whether there may be more.
static bool carry(struct stream *stream) {
    struct tunnel *tunnel = stream->tunnel;
    if (stream->ended) return false;
    size_t head = sizeof(struct frame), limit = stream->pod->left;
    ssize_t count = recv(stream->source.fd, tunnel->gathered.at + tunnel->gathered.end + head, limit, 0);
    if (count > 0) {
        memcpy(tunnel->gathered.at + tunnel->gathered.end, &(struct frame){stream->id, count, DATA}, head);
        tunnel->gathered.end += head + count;
        stream->pod->left -= count;
        if ((size_t)count == limit) return true;
        // Its FIN was there before the read, which has left nothing.
        if (stream->hung_up) pass_end(stream);
    } else if (count == 0) {
        pass_end(stream);
    } else if (errno != EAGAIN) {
        break_stream(stream);
    }
    return false;
}

// ---- Receiving from a tunnel

static void open_stream(struct tunnel *tunnel, uint32_t id, const struct addresses *addresses) {
    int fd = dial(tunnel->pod, addresses);
    if (fd < 0) return frame(tunnel, id, RESET, "", 0);
    struct stream *stream = make_stream(fd, tunnel->pod);
    stream->tunnel = tunnel;
    stream->id = id;
    tunnel->streams[id % STREAM_LIMIT] = stream;
    watch(&stream->source, EPOLLIN | EPOLLRDHUP | EPOLLET, EPOLL_CTL_ADD);
}

static void finish(struct stream *stream) {
    stream->finished = true;
    if (stream->ended) close_stream(stream);
    else shutdown(stream->source.fd, SHUT_WR);
}

static bool ends_behind(const struct bytes *in, size_t count, uint32_t id) {
    struct frame next;
    if (in->end - in->start < count + sizeof next) return false;
    memcpy(&next, in->at + in->start + count, sizeof next);
    return next.kind == END && next.id == id;
}

// Gives streams what has arrived for them, straight from the buffer; stops at one that takes no more.
static void deliver(struct tunnel *tunnel) {
    struct bytes *in = seals ? &tunnel->opened : &tunnel->arrived;
    while (!tunnel->slow && in->start < in->end) {
        size_t there = in->end - in->start;
        if (tunnel->rest == 0) {
            if (there < sizeof tunnel->frame) break;
            memcpy(&tunnel->frame, in->at + in->start, sizeof tunnel->frame);
            size_t content = tunnel->frame.kind == OPEN ? sizeof(struct addresses) : 0;
            if (there < sizeof tunnel->frame + content) break;
            in->start += sizeof tunnel->frame + content;
        }
        struct stream *stream = tunnel->streams[tunnel->frame.id % STREAM_LIMIT];
        if (stream && stream->id != tunnel->frame.id) stream = NULL;
        if (tunnel->frame.kind == OPEN) {
            struct addresses addresses;
            memcpy(&addresses, in->at + in->start - sizeof addresses, sizeof addresses);
            open_stream(tunnel, tunnel->frame.id, &addresses);
        } else if (tunnel->frame.kind == DATA) {
            if (tunnel->rest == 0) tunnel->rest = tunnel->frame.length;
            there = in->end - in->start;
            size_t count = there < tunnel->rest ? there : tunnel->rest;
            if (stream && count > 0) {
                // A FIN that follows goes with the last bytes.
                int more = count == tunnel->rest && ends_behind(in, count, stream->id) ? MSG_MORE : 0;
                ssize_t sent = send(stream->source.fd, in->at + in->start, count, MSG_NOSIGNAL | more);
                if (sent < 0 && errno != EAGAIN) {
                    break_stream(stream);
                } else if (sent < (ssize_t)count) {
                    tunnel->slow = stream;
                    watch_writing(stream);
                    count = sent < 0 ? 0 : sent;
                }
            }
            in->start += count;
            tunnel->rest -= count;
        } else if (stream && tunnel->frame.kind == END) {
            finish(stream);
        } else if (stream) {
            reset_stream(stream);
        }
    }
    if (tunnel->slow) return;
    memmove(in->at, in->at + in->start, in->end - in->start);
    in->end -= in->start;
    in->start = 0;
}

// Opens whole records, as many as there is room for.
static void unseal(struct tunnel *tunnel) {
    struct bytes *from = &tunnel->arrived, *to = &tunnel->opened;
    uint32_t whole;
    while (from->end - from->start >= sizeof whole) {
        uint8_t nonce[12] = {0}, tag[TAG], *head = from->at + from->start, *content = head + sizeof whole;
        memcpy(&whole, head, sizeof whole);
        if (from->end - from->start < sizeof whole + whole || whole - TAG > SEALED_ROOM - to->end) break;
        struct gcm_context_data context;
        memcpy(nonce, &tunnel->received_records, 8), tunnel->received_records++;
        IMB_AES128_GCM_DEC(aes, &key, &context, to->at + to->end, content, whole - TAG, nonce, head, sizeof whole, tag, TAG);
        require(memcmp(tag, content + whole - TAG, TAG) == 0, "a record's tag");
        from->start += sizeof whole + whole;
        to->end += whole - TAG;
    }
    memmove(from->at, from->at + from->start, from->end - from->start);
    from->end -= from->start;
    from->start = 0;
}

// Reads once and delivers.
static void receive(struct tunnel *tunnel) {
    struct bytes *in = &tunnel->arrived;
    size_t limit = tunnel->pod->left;
    ssize_t count = recv(tunnel->source.fd, in->at + in->end, limit, 0);
    if (count == 0) exit(0);
    require(count > 0 || errno == EAGAIN, "the tunnel");
    tunnel->is_readable = count == (ssize_t)limit;
    if (count < 0) return;
    in->end += count;
    tunnel->pod->left -= count;
    if (seals) unseal(tunnel);
    deliver(tunnel);
}

// ---- Within a node

// Gives a stream what waits for it. Returns whether nothing does any more.
static bool drain(struct stream *stream) {
    ssize_t count = 0;
    if (stream->backlog_start < stream->backlog_end) {
        count = send(stream->source.fd, stream->backlog + stream->backlog_start, stream->backlog_end - stream->backlog_start, MSG_NOSIGNAL);
        if (count > 0) stream->backlog_start += count;
    }
    while (stream->piped > 0 && count >= 0) {
        count = splice(stream->other->pipe[0], NULL, stream->source.fd, NULL, stream->piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (count > 0) stream->piped -= count;
    }
    if (count < 0 && errno != EAGAIN) return break_stream(stream), false;
    if (stream->backlog_start < stream->backlog_end || stream->piped > 0) return watch_writing(stream), false;
    return true;
}

// Reads once and gives it to the other end. Returns whether there may be more. A stream that has read much at a time is
// spliced from then on.
static bool relay(struct stream *stream) {
    struct stream *other = stream->other;
    if (stream->ended || other->piped > 0 || other->backlog_start < other->backlog_end) return false;
    size_t limit = stream->pod->left;
    bool splices = stream->pipe[0] >= 0;
    ssize_t count = splices ? splice(stream->source.fd, NULL, stream->pipe[1], NULL, limit, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
                            : recv(stream->source.fd, scratch, limit, 0);
    if (count < 0 && errno != EAGAIN) return break_stream(stream), false;
    bool is_over = count == 0 || (!splices && count > 0 && (size_t)count < limit && stream->hung_up);
    if (count > 0) {
        stream->pod->left -= count;
        if (splices) {
            other->piped = count;
            if (!drain(other)) return false;
        } else {
            ssize_t sent = send(other->source.fd, scratch, count, MSG_NOSIGNAL | (is_over ? MSG_MORE : 0));
            if (sent < 0 && errno != EAGAIN) return break_stream(other), false;
            if (sent < count) {
                if (sent < 0) sent = 0;
                if (!other->backlog) require((other->backlog = malloc(SHARE)) != NULL, "malloc");
                memcpy(other->backlog, scratch + sent, count - sent);
                other->backlog_start = 0, other->backlog_end = count - sent;
                return watch_writing(other), false;
            }
            if (count >= SPLICED_FROM && pipe2(stream->pipe, O_NONBLOCK | O_CLOEXEC) == 0) fcntl(stream->pipe[1], F_SETPIPE_SZ, PIPE);
        }
    }
    if (!is_over) return splices ? count > 0 : count == (ssize_t)limit;
    stream->ended = other->finished = true;
    if (stream->finished) close_stream(stream), close_stream(other);
    else shutdown(other->source.fd, SHUT_WR);
    return false;
}

// ---- Connections of a pod, and tunnels to it

static void take_connection(struct pod *pod, int fd, struct sockaddr_in *from) {
    struct addresses addresses = {.from = *from};
    socklen_t length = sizeof addresses.to;
    require((is_transparent ? getsockname(fd, (struct sockaddr *)&addresses.to, &length)
                            : getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &addresses.to, &length)) == 0, "where a connection was going");
    struct stream *stream = make_stream(fd, pod);
    if (role == ACCEPT) {
        stream->tunnel = pod->tunnel;
        while (pod->tunnel->streams[pod->tunnel->next_id % STREAM_LIMIT]) pod->tunnel->next_id++;
        stream->id = pod->tunnel->next_id++;
        pod->tunnel->streams[stream->id % STREAM_LIMIT] = stream;
        frame(pod->tunnel, stream->id, OPEN, &addresses, sizeof addresses);
        // What it has said already goes with the OPEN.
        queue(stream);
    } else {
        int far = dial(pod->target, &addresses);
        if (far < 0) return reset_stream(stream);
        stream->other = make_stream(far, pod);
        stream->other->other = stream;
        watch(&stream->other->source, EPOLLIN | EPOLLRDHUP | EPOLLET, EPOLL_CTL_ADD);
    }
    watch(&stream->source, EPOLLIN | EPOLLRDHUP | EPOLLET, EPOLL_CTL_ADD);
}

static struct tunnel *make_tunnel(int fd, struct pod *pod) {
    struct tunnel *tunnel = calloc(1, sizeof *tunnel);
    require(tunnel != NULL && tunnel_count < sizeof tunnels / sizeof *tunnels, "another tunnel");
    tunnel->source = (struct source){TUNNEL, fd};
    tunnel->pod = pod;
    struct bytes *buffers[] = {&tunnel->gathered, &tunnel->sealed, &tunnel->arrived, &tunnel->opened};
    for (int i = 0; i < 4; i++) require((buffers[i]->at = malloc(SEALED_ROOM)) != NULL, "malloc");
    watch(&tunnel->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, EPOLL_CTL_ADD);
    return tunnels[tunnel_count++] = tunnel;
}

static void accept_all(struct pod *pod) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    int fd;
    while ((fd = accept4(pod->listener.fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (role == DELIVER) make_tunnel(fd, pod);
        else take_connection(pod, fd, &from);
    }
}

static void listen_in(struct pod *pod) {
    enter(pod->namespace);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(role == DELIVER ? TUNNEL_PORT : CAPTURED_PORT)};
    pod->listener = (struct source){LISTENER, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    set(pod->listener.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(pod->listener.fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (is_transparent) set(pod->listener.fd, SOL_IP, IP_TRANSPARENT, 1);
    do_not_pace(pod->listener.fd, role == DELIVER ? "cubic" : "reno");
    require(bind(pod->listener.fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(pod->listener.fd, 4096) == 0, "listen");
    watch(&pod->listener, EPOLLIN, EPOLL_CTL_ADD);
}

static void connect_tunnel(struct pod *pod) {
    enter(pod->namespace);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    do_not_pace(fd, "cubic");
    require(connect(fd, (struct sockaddr *)&pod->peer, sizeof pod->peer) == 0, "connecting a tunnel");
    require(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
    pod->tunnel = make_tunnel(fd, pod);
}

static void note(const struct epoll_event *event) {
    struct source *source = event->data.ptr;
    if (source->kind == LISTENER) return accept_all((struct pod *)source);
    if (source->kind == TUNNEL) {
        struct tunnel *tunnel = (struct tunnel *)source;
        if (event->events & ~EPOLLOUT) tunnel->is_readable = true;
        if (event->events & EPOLLOUT && tunnel->is_blocked) {
            tunnel->is_blocked = false;
            flush(tunnel);
        }
        return;
    }
    struct stream *stream = (struct stream *)source;
    if (event->events & (EPOLLRDHUP | EPOLLHUP)) stream->hung_up = true;
    if (event->events & ~EPOLLOUT) queue(stream);
    if (!(event->events & EPOLLOUT)) return;
    if (stream->tunnel && stream->tunnel->slow == stream) stream->tunnel->slow = NULL;
    if (stream->other && !stream->dead && drain(stream)) queue(stream->other);
}

// Those of a pod that have something to read, until its share of the turn is used up.
static void serve(struct pod *pod) {
    struct stream *stream;
    while ((stream = pod->first) && (stream->dead || pod->left > 0)) {
        struct tunnel *tunnel = stream->tunnel;
        if (!stream->dead && tunnel && (tunnel->is_blocked || tunnel->gathered.end > CROWDED)) break;
        if (!(pod->first = stream->next)) pod->last = &pod->first;
        stream->waits = false;
        if (stream->dead) free(stream);
        else if (tunnel ? carry(stream) : relay(stream)) queue(stream);
    }
}

// Whether something can be done without waiting for an event.
static bool is_busy(void) {
    for (unsigned i = 0; i < tunnel_count; i++)
        if (!tunnels[i]->slow && tunnels[i]->is_readable) return true;
    for (unsigned i = 0; i < pod_count; i++)
        if (pods[i].first && !(pods[i].first->tunnel && pods[i].first->tunnel->is_blocked)) return true;
    return false;
}

static void turn(void) {
    static unsigned used_pods;
    struct epoll_event events[EVENTS];
    size_t share = used_pods > 1 ? SHARED : SHARE;
    int count = epoll_wait(epoll, events, EVENTS, is_busy() ? 0 : -1);
    for (unsigned i = 0; i < pod_count; i++) pods[i].left = share;
    for (int i = 0; i < count; i++) note(&events[i]);
    for (unsigned i = 0; i < tunnel_count; i++) {
        struct tunnel *tunnel = tunnels[i];
        deliver(tunnel);
        if (!tunnel->slow && tunnel->is_readable && tunnel->pod->left > 0) receive(tunnel);
    }
    used_pods = 0;
    for (unsigned i = 0; i < pod_count; i++) {
        serve(&pods[i]);
        used_pods += pods[i].left < share;
    }
    for (unsigned i = 0; i < tunnel_count; i++) flush(tunnels[i]);
}

static struct pod *add_pod(char *text) {
    require(pod_count < POD_LIMIT, "another namespace");
    struct pod *pod = &pods[pod_count++];
    char *peer = strchr(text, '='), *port = peer ? strchr(peer, ':') : NULL;
    if (port) {
        *peer++ = *port++ = 0;
        pod->peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(port))};
        require(inet_pton(AF_INET, peer, &pod->peer.sin_addr) == 1, "an address");
    }
    pod->last = &pod->first;
    require((pod->namespace = open(text, O_RDONLY | O_CLOEXEC)) >= 0, text);
    return pod;
}

int main(int argc, char **argv) {
    const char *names[] = {"accept", "deliver", "join"};
    for (role = ACCEPT; role <= JOIN && (argc < 2 || strcmp(argv[1], names[role]) != 0);) role++;
    seals = argc > 2 && role != JOIN && strcmp(argv[2], "--seal") == 0;
    is_transparent = argc > 2 && role == ACCEPT && strcmp(argv[2], "--transparent") == 0;
    int first = seals || is_transparent ? 3 : 2;
    if (role > JOIN || argc <= first || (role == JOIN && argc != 4)) {
        puts("usage: floor accept [--seal | --transparent] NETNS=ADDRESS:PORT... | deliver [--seal] NETNS... | join CLIENT-NETNS SERVER-NETNS");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    require((epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0, "epoll_create1");
    if (seals) {
        static const uint8_t zeros[16];
        require((aes = alloc_mb_mgr(0)) != NULL, "libipsec-mb");
        init_mb_mgr_auto(aes, NULL);
        IMB_AES128_GCM_PRE(aes, zeros, &key);
    }
    for (int i = first; i < argc; i++) add_pod(argv[i]);
    if (role == JOIN) pods[0].target = &pods[1];
    for (unsigned i = 0; i < (role == JOIN ? 1 : pod_count); i++) {
        if (role == ACCEPT) connect_tunnel(&pods[i]);
        listen_in(&pods[i]);
    }
    for (;;) turn();
}
