/* A closed-loop load generator for a CoAP server on this machine's loopback address (RFC 7252).
 *
 *     load [-e] [-m REQUESTS] [-n REQUESTS] [-p PID] [-t MS] PORT WINDOW SECONDS PATH PAYLOAD
 *
 * It keeps WINDOW CON GETs of PATH in flight and sends the next one when an answer has come, for SECONDS or, if that is
 * sooner, until the REQUESTS of -n were sent. An answer counts when it is a piggybacked 2.05 with the request's Message
 * ID and token and with PAYLOAD; with -e, when it is the request itself, from a server that only echoes. What else
 * arrives is counted as wrong. After MS (1000) of silence all that is in flight counts as lost. A new source port is
 * taken when the REQUESTS of -m (60000) were sent from one, and after a loss: a server remembers the Message IDs of a
 * peer for EXCHANGE_LIFETIME (RFC 7252 4.5).
 *
 * It does not sleep while it waits, so that the time to wake it up is in no figure; give it a CPU of its own.
 *
 * Prints a line of JSON: replies, lost, wrong; rps, of the time to the last answer; p50_us and p99_us from send to
 * receive; load_cpu_us, its own CPU time a reply. With -p, of the server's process: cpu_us, CPU time a reply, user and
 * system, and rss_bytes, resident memory afterwards. Exit status 1, and a line on stderr: it could not be measured.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_PORT_REQUESTS = 60000, /* fewer than there are Message IDs */
    MAX_WINDOW = 1000,
    MAX_DATAGRAM = 2048,
    MIDS = 65536,
    TOKEN = 4, /* bytes: two that stay, and the Message ID */
    HEADER = 4,
};

static const uint8_t CON_GET[] = {0x40 | TOKEN, 0x01}, ACK_CONTENT[] = {0x60 | TOKEN, 0x45};
static const uint64_t SECOND = 1000000000;

struct plan {
    int port, window, pid, timeout_ms, port_requests;
    long requests; /* 0: no limit */
    double seconds;
    bool echo;
    const char *payload;
};

/* All that is counted. sent_at: when the request of a Message ID was sent, 0 if none is in flight. */
struct state {
    int socket, in_flight, sent_from_port;
    uint16_t mid;
    uint64_t sent_at[MIDS], last_reply;
    uint8_t request[MAX_DATAGRAM];
    size_t request_size;
    long sent, replies, lost, wrong;
    uint32_t *latencies; /* ns */
    size_t room;
};

static void fail(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* Another process. */

static FILE *open_proc(int pid, const char *file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *found = fopen(path, "r");
    if (!found) fail(path);
    return found;
}

/* CPU time of a process of one thread, user and system, in ns. */
static uint64_t cpu_ns(int pid) {
    uint64_t ns;
    FILE *file = open_proc(pid, "schedstat");
    if (fscanf(file, "%" SCNu64, &ns) != 1) fail("schedstat tells no CPU time");
    fclose(file);
    return ns;
}

/* Resident memory. Counted page by page: the VmRSS of status may lag behind by some dozens of pages. */
static long rss_bytes(int pid) {
    char line[256];
    long kb = -1;
    FILE *file = open_proc(pid, "smaps_rollup");
    while (kb < 0 && fgets(line, sizeof line, file)) sscanf(line, "Rss: %ld kB", &kb);
    fclose(file);
    if (kb < 0) fail("smaps_rollup tells no resident memory");
    return kb * 1024;
}

static uint64_t own_cpu_ns(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * SECOND +
           (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

/* Messages. */

/* Write a GET of path, segments of at most 268 bytes, without Message ID; returns its size. */
static size_t write_request(uint8_t *buf, const char *path) {
    memset(buf, 0, HEADER + TOKEN);
    memcpy(buf, CON_GET, sizeof CON_GET);
    memcpy(buf + HEADER, "ld", 2);
    size_t pos = HEADER + TOKEN;
    unsigned delta = 11; /* Uri-Path; the next ones repeat it */
    while (*path) {
        size_t n = strcspn(path, "/");
        if (n > 268 || pos + 2 + n > MAX_DATAGRAM) fail("the path is too long");
        buf[pos++] = (uint8_t)(delta << 4 | (n < 13 ? (unsigned)n : 13));
        if (n >= 13) buf[pos++] = (uint8_t)(n - 13);
        memcpy(buf + pos, path, n);
        pos += n;
        path += n + (path[n] == '/');
        delta = 0;
    }
    return pos;
}

static void write_mid(uint8_t *request, uint16_t mid) {
    request[2] = request[HEADER + 2] = (uint8_t)(mid >> 8);
    request[3] = request[HEADER + 3] = (uint8_t)mid;
}

/* Read the rest of an option's delta or length (RFC 7252 3.1); returns -1 where that is malformed. */
static long extended(unsigned nibble, const uint8_t **pos, const uint8_t *end) {
    const uint8_t *p = *pos;
    if (nibble < 13) return nibble;
    if (nibble == 15 || end - p < nibble - 12) return -1;
    *pos = p + (nibble - 12);
    return nibble == 13 ? 13 + p[0] : 269 + (p[0] << 8 | p[1]);
}

/* Step over the options from p on; returns where the payload begins, or NULL where they are malformed. */
static const uint8_t *find_payload(const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        unsigned head = *p++;
        if (head == 0xFF) return p < end ? p : NULL;
        long delta = extended(head >> 4, &p, end), length = extended(head & 15, &p, end);
        if (delta < 0 || length < 0 || end - p < length) return NULL;
        p += length;
    }
    return end;
}

/* Tell whether a reply is the right one to the request, whose Message ID it has. */
static bool is_right(const struct plan *plan, const struct state *s, const uint8_t *reply, size_t n) {
    if (plan->echo) return n == s->request_size && !memcmp(reply, s->request, n);
    if (n < HEADER + TOKEN || memcmp(reply, ACK_CONTENT, sizeof ACK_CONTENT)) return false;
    if (memcmp(reply + HEADER, s->request + HEADER, TOKEN)) return false;
    const uint8_t *end = reply + n, *payload = find_payload(reply + HEADER + TOKEN, end);
    size_t expected = strlen(plan->payload);
    return payload && (size_t)(end - payload) == expected && !memcmp(payload, plan->payload, expected);
}

/* The loop. */

/* Take a new source port; what is in flight is forgotten. */
static void open_port(const struct plan *plan, struct state *s) {
    if (s->socket >= 0) close(s->socket);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)plan->port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->socket = socket(AF_INET, SOCK_DGRAM, 0);
    if (s->socket < 0 || connect(s->socket, (struct sockaddr *)&server, sizeof server)) fail("no socket");
    memset(s->sent_at, 0, sizeof s->sent_at);
    s->in_flight = s->sent_from_port = 0;
}

static void send_request(struct state *s) {
    write_mid(s->request, ++s->mid);
    s->sent_at[s->mid] = now_ns();
    errno = 0;
    if (send(s->socket, s->request, s->request_size, 0) < 0) fail("cannot send");
    s->sent++;
    s->sent_from_port++;
    s->in_flight++;
}

/* Wait for a datagram without sleeping; returns its size, or -1 after timeout_ms without one. */
static ssize_t receive(const struct plan *plan, const struct state *s, uint8_t *buf) {
    uint64_t until = now_ns() + (uint64_t)plan->timeout_ms * 1000000;
    for (;;) {
        ssize_t n = recv(s->socket, buf, MAX_DATAGRAM, MSG_DONTWAIT);
        if (n >= 0) return n;
        if (errno != EAGAIN && errno != EINTR) fail("the server is not there");
        if (now_ns() > until) return -1;
    }
}

static void take_reply(const struct plan *plan, struct state *s, const uint8_t *reply, size_t n) {
    uint64_t now = now_ns();
    uint16_t mid = n < HEADER ? 0 : (uint16_t)(reply[2] << 8 | reply[3]);
    if (n < HEADER || !s->sent_at[mid]) { /* too short, or an answer to nothing, or the second one */
        s->wrong++;
        return;
    }
    uint64_t took = now - s->sent_at[mid];
    s->sent_at[mid] = 0;
    s->in_flight--;
    write_mid(s->request, mid);
    if (!is_right(plan, s, reply, n)) {
        s->wrong++;
        return;
    }
    if ((size_t)s->replies == s->room) {
        s->room = s->room ? 2 * s->room : 1 << 16;
        s->latencies = realloc(s->latencies, s->room * sizeof *s->latencies);
        if (!s->latencies) fail("no memory");
    }
    s->latencies[s->replies++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
    s->last_reply = now;
}

static void run(const struct plan *plan, struct state *s, uint64_t until) {
    uint8_t reply[MAX_DATAGRAM];
    for (;;) {
        bool more = now_ns() < until;
        if (!s->in_flight && s->sent_from_port == plan->port_requests) open_port(plan, s);
        while (more && s->in_flight < plan->window && s->sent_from_port < plan->port_requests &&
               (!plan->requests || s->sent < plan->requests))
            send_request(s);
        if (!s->in_flight) return;
        ssize_t n = receive(plan, s, reply);
        if (n < 0) {
            s->lost += s->in_flight;
            open_port(plan, s);
        } else {
            take_reply(plan, s, reply, (size_t)n);
        }
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct state *s, int percent) {
    return s->replies ? s->latencies[(s->replies - 1) * percent / 100] / 1e3 : 0;
}

static struct plan read_arguments(int argc, char **argv, const char **path) {
    struct plan plan = {.timeout_ms = 1000, .port_requests = MAX_PORT_REQUESTS};
    int option;
    while ((option = getopt(argc, argv, "em:n:p:t:")) != -1) {
        if (option == 'e') plan.echo = true;
        else if (option == 'm') plan.port_requests = atoi(optarg);
        else if (option == 'n') plan.requests = atol(optarg);
        else if (option == 'p') plan.pid = atoi(optarg);
        else if (option == 't') plan.timeout_ms = atoi(optarg);
        else exit(2);
    }
    if (argc - optind != 5) {
        fputs("usage: load [-e] [-m REQUESTS] [-n REQUESTS] [-p PID] [-t MS] PORT WINDOW SECONDS PATH PAYLOAD\n",
              stderr);
        exit(2);
    }
    plan.port = atoi(argv[optind]);
    plan.window = atoi(argv[optind + 1]);
    plan.seconds = atof(argv[optind + 2]);
    *path = argv[optind + 3];
    plan.payload = argv[optind + 4];
    if (plan.port < 1 || plan.port > 65535 || plan.window < 1 || plan.window > MAX_WINDOW || plan.seconds <= 0 ||
        plan.port_requests < 1 || plan.port_requests > MAX_PORT_REQUESTS) {
        fputs("load: PORT is 1 to 65535, WINDOW 1 to 1000, SECONDS more than 0, REQUESTS of -m 1 to 60000\n", stderr);
        exit(2);
    }
    return plan;
}

int main(int argc, char **argv) {
    static struct state s = {.socket = -1};
    const char *path;
    struct plan plan = read_arguments(argc, argv, &path);
    errno = 0;
    s.request_size = write_request(s.request, path);
    open_port(&plan, &s);

    uint64_t cpu = plan.pid ? cpu_ns(plan.pid) : 0, own_cpu = own_cpu_ns(), start = now_ns();
    s.mid = (uint16_t)start;
    run(&plan, &s, start + (uint64_t)(plan.seconds * 1e9));
    cpu = plan.pid ? cpu_ns(plan.pid) - cpu : 0;
    own_cpu = own_cpu_ns() - own_cpu;

    double replies = s.replies ? (double)s.replies : 1;
    if (s.replies) qsort(s.latencies, (size_t)s.replies, sizeof *s.latencies, ascending);
    printf("{\"replies\": %ld, \"lost\": %ld, \"wrong\": %ld", s.replies, s.lost, s.wrong);
    printf(", \"rps\": %.1f", s.replies ? replies * 1e9 / (double)(s.last_reply - start) : 0);
    printf(", \"p50_us\": %.1f, \"p99_us\": %.1f", percentile_us(&s, 50), percentile_us(&s, 99));
    printf(", \"load_cpu_us\": %.2f", (double)own_cpu / 1e3 / replies);
    if (plan.pid) printf(", \"cpu_us\": %.2f, \"rss_bytes\": %ld", (double)cpu / 1e3 / replies, rss_bytes(plan.pid));
    puts("}");
    return 0;
}
