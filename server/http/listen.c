/* server/http/listen.c - sockets that listen, and accepting from them.
 *
 * TCP: each worker binds its own with SO_REUSEPORT. Unix: one socket, watched by every worker that
 * asks for the same path. Accepting pauses, rather than spins, when descriptors or places run out;
 * what waits then waits in the kernel's backlog. */
#include "server/http/http.h"
#include "server/http/http_priv.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/base/clock.h"

#define BACKLOG		1024
#define ACCEPT_PER_TURN 64 /* then the connections there already are get their turn */
#define ACCEPT_PAUSE_MS 100

static void on_acceptable(void *arg, int fd, int events);

/* --- unix sockets, shared by the workers -------------------------------------------------------------- */
struct unix_socket {
	struct unix_socket *next;
	char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
	int fd, users;
};
static pthread_mutex_t unix_lock = PTHREAD_MUTEX_INITIALIZER;
static struct unix_socket *unix_sockets; /* under unix_lock */

/* A file left by a server that is no more may go; one that answers is somebody's. */
static bool unix_is_stale(const struct sockaddr_un *sa)
{
	struct stat st;
	int fd, rc, e;

	if (lstat(sa->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = connect(fd, (const struct sockaddr *)(const void *)sa, sizeof *sa);
	e = errno;
	close(fd);
	return rc != 0 && e == ECONNREFUSED;
}

static enum rc unix_bind(const char *path, struct unix_socket **ret, struct err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct unix_socket *u = calloc(1, sizeof *u);

	if (!u)
		abort();
	if (strlen(path) == 0 || strlen(path) >= sizeof sa.sun_path) {
		free(u);
		err_set(err, RC_INVALID, "bad_listen_address",
			"the socket path '%s' is empty or too long", path);
		return RC_INVALID;
	}
	memcpy(sa.sun_path, path, strlen(path) + 1);
	memcpy(u->path, sa.sun_path, sizeof u->path);
	if (unix_is_stale(&sa))
		unlink(path);
	u->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (u->fd < 0 || bind(u->fd, (struct sockaddr *)(void *)&sa, sizeof sa) != 0 ||
	    listen(u->fd, BACKLOG) != 0) {
		err_set(err, RC_IO, "cannot_listen", "cannot listen on unix:%s: %s", path,
			strerror(errno));
		if (u->fd >= 0)
			close(u->fd);
		free(u);
		return RC_IO;
	}
	u->next = unix_sockets;
	unix_sockets = u;
	*ret = u;
	return RC_OK;
}

static enum rc unix_open(const char *path, struct unix_socket **ret, struct err *err)
{
	struct unix_socket *u;
	enum rc rc = RC_OK;

	pthread_mutex_lock(&unix_lock);
	for (u = unix_sockets; u && strcmp(u->path, path) != 0; u = u->next)
		;
	if (!u)
		rc = unix_bind(path, &u, err);
	if (u) {
		u->users++;
		*ret = u;
	}
	pthread_mutex_unlock(&unix_lock);
	return rc;
}

static void unix_close(struct unix_socket *u)
{
	struct unix_socket **at = &unix_sockets;

	pthread_mutex_lock(&unix_lock);
	if (--u->users == 0) {
		while (*at != u)
			at = &(*at)->next;
		*at = u->next;
		unlink(u->path);
		close(u->fd);
		free(u);
	}
	pthread_mutex_unlock(&unix_lock);
}

/* --- TCP ---------------------------------------------------------------------------------------------- */
/* "host:port" or "[v6]:port", literal addresses only. */
static enum rc tcp_parse(const char *address, struct sockaddr_storage *sa, socklen_t *len,
			 struct err *err)
{
	const char *colon = strrchr(address, ':');
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
				 .ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *ai = NULL;
	char host[64];
	size_t n = colon ? (size_t)(colon - address) : 0, skip = 0;
	uint64_t port;

	if (n > 1 && address[0] == '[' && address[n - 1] == ']') {
		skip = 1;
		n -= 2;
	}
	if (n == 0 || n >= sizeof host)
		goto bad;
	memcpy(host, address + skip, n);
	host[n] = '\0';
	if (strcmp(host, "localhost") == 0)
		snprintf(host, sizeof host, "127.0.0.1");
	if (str_to_u64(str_from(colon + 1), &port) != RC_OK || port > 65535)
		goto bad;
	if ((!skip && strchr(host, ':')) || getaddrinfo(host, colon + 1, &hints, &ai) != 0)
		goto bad;
	memcpy(sa, ai->ai_addr, ai->ai_addrlen);
	*len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return RC_OK;
bad:
	return err_set(err, RC_INVALID, "bad_listen_address",
		       "'%s' is no address to listen on: use 127.0.0.1:8080, [::1]:8080 or "
		       "unix:/path",
		       address);
}

static void address_text(const struct sockaddr *sa, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sa;

		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
		snprintf(out, size, "%s:%u", host, (unsigned)ntohs(v4->sin_port));
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sa;

		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
		snprintf(out, size, "[%s]:%u", host, (unsigned)ntohs(v6->sin6_port));
	} else {
		snprintf(out, size, "unix");
	}
}

static enum rc tcp_open(const char *address, int *ret_fd, char bound[128], struct err *err)
{
	static const int one = 1;
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = 0;
	int fd;

	TRY(tcp_parse(address, &sa, &len, err));
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, RC_IO, "cannot_listen", "no socket for %s: %s", address,
			       strerror(errno));
	/* accepted sockets inherit the last two */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) != 0 ||
	    bind(fd, (struct sockaddr *)(void *)&sa, len) != 0 || listen(fd, BACKLOG) != 0) {
		err_set(err, RC_IO, "cannot_listen", "cannot listen on %s: %s", address,
			strerror(errno));
		close(fd);
		return RC_IO;
	}
	len = sizeof sa;
	if (getsockname(fd, (struct sockaddr *)(void *)&sa, &len) == 0)
		address_text((struct sockaddr *)(void *)&sa, bound, 128);
	*ret_fd = fd;
	return RC_OK;
}

/* --- listeners ---------------------------------------------------------------------------------------- */
static void listener_resume(void *arg)
{
	struct http_listener *l = arg;

	loop_io_set(l->front->loop, &l->io, l->fd, LOOP_READ, on_acceptable, l);
}

static void listener_pause(struct http_listener *l)
{
	counter_add(&http_counters.refused_global, 1);
	loop_io_clear(&l->io);
	loop_timer_set(l->front->loop, &l->retry, ACCEPT_PAUSE_MS, listener_resume, l);
}

static int reserve_open(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left: with the reserve's place the first in line is told so by a close. */
static void out_of_descriptors(struct http_listener *l)
{
	int fd;

	if (l->reserve_fd >= 0) {
		close(l->reserve_fd);
		fd = accept(l->fd, NULL, NULL);
		if (fd >= 0)
			close(fd);
		l->reserve_fd = reserve_open();
	}
	listener_pause(l);
}

static void take(struct http_listener *l, int fd, const struct sockaddr_storage *sa)
{
	const struct sockaddr *a = (const struct sockaddr *)(const void *)sa;
	unsigned slot = l->tcp ? http_ip_slot(a) : HTTP_NO_SLOT;
	char peer[64];

	if (http_ip_too_bad(l->front, slot, clock_mono_ms()) || !http_ip_enter(l->front, slot)) {
		counter_add(&http_counters.refused_ip, 1);
		close(fd);
		return;
	}
	address_text(a, peer, sizeof peer);
	/* a unix socket is guarded by its folder, and has no name a certificate could prove */
	http_conn_new(l->front, fd, l->surface, l->tcp ? http_tls_new() : NULL, peer, slot);
}

static void on_acceptable(void *arg, int listen_fd, int events)
{
	struct http_listener *l = arg;
	struct sockaddr_storage sa;

	(void)events;
	for (int i = 0; i < ACCEPT_PER_TURN; i++) {
		socklen_t len = sizeof sa;
		int fd;

		if (!http_room_left(l->front, l->surface)) {
			listener_pause(l);
			return;
		}
		sa.ss_family = AF_UNIX;
		fd = accept4(listen_fd, (struct sockaddr *)(void *)&sa, &len,
			     SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			take(l, fd, &sa);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			out_of_descriptors(l);
			return;
		}
		if (errno == EAGAIN)
			return;
		/* the peer gave up in the queue, or a signal: the next may do better */
	}
}

enum rc http_listen(struct http_front *f, const char *address, enum surface surface,
		    struct http_listener **ret, char bound[128], struct err *err)
{
	struct unix_socket *shared = NULL;
	struct http_listener *l;
	int fd = -1;

	assert(surface == SURFACE_DATA || surface == SURFACE_ADMIN);
	if (strncmp(address, "unix:", 5) == 0) {
		TRY(unix_open(address + 5, &shared, err));
		fd = shared->fd;
		snprintf(bound, 128, "%s", address);
	} else {
		TRY(tcp_open(address, &fd, bound, err));
	}
	l = calloc(1, sizeof *l);
	if (!l)
		abort();
	*l = (struct http_listener){.front = f,
				    .next = f->listeners,
				    .surface = surface,
				    .fd = fd,
				    .reserve_fd = reserve_open(),
				    .tcp = !shared,
				    .shared = shared};
	f->listeners = l;
	listener_resume(l);
	*ret = l;
	return RC_OK;
}

static void listener_free(struct http_listener *l)
{
	loop_io_clear(&l->io);
	loop_timer_clear(&l->retry);
	if (l->reserve_fd >= 0)
		close(l->reserve_fd);
	if (l->shared)
		unix_close(l->shared);
	else
		close(l->fd);
	free(l);
}

/* Who is already in the queue was promised an answer: take them before the door is shut. */
void http_listeners_close(struct http_front *f)
{
	while (f->listeners) {
		struct http_listener *l = f->listeners;

		on_acceptable(l, l->fd, LOOP_READ);
		f->listeners = l->next;
		listener_free(l);
	}
}
