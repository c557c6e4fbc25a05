/* httpload.c - httpload PORT PATH CLIENTS: so many fetch this from 127.0.0.1 at once
 *
 * What comes is counted and thrown away in the kernel (MSG_TRUNC), so that the
 * server's work is what is measured. Each must get a whole 200.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    int fd;
    char head[2048];
    size_t len;
    int in_body;
    unsigned long long left;
};

static int die(const char *what)
{
    fprintf(stderr, "httpload: %s: %s\n", what, errno ? strerror(errno) : "not what was asked for");
    return 1;
}

/* 1 more comes, 0 all is there, -1 it went wrong */
static int take(struct client *c)
{
    ssize_t n;

    if (c->in_body) {
        n = recv(c->fd, NULL, 16 << 20, MSG_TRUNC | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN ? 1 : -1;
        c->left -= (unsigned long long)n;
        return n == 0 ? -1 : c->left > 0;
    }
    n = recv(c->fd, c->head + c->len, sizeof c->head - 1 - c->len, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? 1 : -1;
    c->len += (size_t)n;
    c->head[c->len] = '\0';
    char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\ncontent-length:");
    if (!end)
        return c->len == sizeof c->head - 1 ? -1 : 1;
    errno = 0;
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0 || !length ||
        sscanf(length + 16, "%llu", &c->left) != 1)
        return -1;
    c->left -= c->len - (size_t)(end + 4 - c->head);
    c->in_body = 1;
    return c->left > 0;
}

int main(int argc, char **argv)
{
    int n = argc == 4 ? atoi(argv[3]) : 0, ep = epoll_create1(0);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct client *c = calloc((size_t)n + 1, sizeof *c);
    char request[512];

    if (n < 1 || !c || ep < 0) {
        fputs("usage: httpload PORT PATH CLIENTS\n", stderr);
        return 2;
    }
    in.sin_port = htons((uint16_t)atoi(argv[1]));
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n"
                       "Connection: close\r\n\r\n", argv[2]);
    for (int i = 0; i < n; i++) {
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = &c[i] };
        c[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c[i].fd < 0 || connect(c[i].fd, (struct sockaddr *)&in, sizeof in) < 0 ||
            send(c[i].fd, request, (size_t)len, 0) != len || epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &e))
            return die("connect");
    }
    for (int left = n; left > 0;) {
        struct epoll_event e[64];
        int k = epoll_wait(ep, e, 64, 60000);
        if (k <= 0)
            return die("wait");
        for (int i = 0; i < k; i++) {
            struct client *who = e[i].data.ptr;
            int rc = take(who);
            if (rc < 0)
                return die("fetch");
            if (rc == 0) {
                close(who->fd);
                left--;
            }
        }
    }
    return 0;
}
