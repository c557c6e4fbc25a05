/* hello_tcp.c - no MPI: processes that find each other by the names of nodes
 *
 * Rank 0 listens, the others connect to the node that it runs on and say who
 * they are. Where everybody is comes from the environment.
 *
 *   cc -O -o hello_tcp hello_tcp.c
 *   mpirun -np 4 ./hello_tcp        or   bpsh 0-3 ./hello_tcp
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT "7117"

/* The node of rank 0: BPROC_NODES begins with it, as in "2-5,0". */
static const char *first_node(void)
{
    static char name[32];

    snprintf(name, sizeof name, "n%d", atoi(getenv("BPROC_NODES")));
    return name;
}

static int reach(const char *host, int passive)
{
    struct addrinfo want = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *a;
    int one = 1, rc = getaddrinfo(host, PORT, &want, &a);

    if (rc) {
        fprintf(stderr, "%s: %s\n", host, gai_strerror(rc));
        exit(1);
    }
    for (int tries = 0; tries < 300; tries++, usleep(100000)) { /* rank 0 may not be there yet */
        int s = socket(a->ai_family, a->ai_socktype, 0);
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if ((passive ? bind(s, a->ai_addr, a->ai_addrlen)
                     : connect(s, a->ai_addr, a->ai_addrlen)) == 0) {
            freeaddrinfo(a);
            return s;
        }
        close(s);
    }
    perror(host);
    exit(1);
}

int main(void)
{
    const char *rank = getenv("BPROC_RANK"), *size = getenv("BPROC_SIZE");
    char text[300], host[64] = "";

    if (!rank || !size || !getenv("BPROC_NODES"))
        return fputs("run me with mpirun or bpsh\n", stderr), 2;
    gethostname(host, sizeof host - 1);
    if (atoi(rank) > 0) {
        int s = reach(first_node(), 0);
        int n = snprintf(text, sizeof text, "rank %d on %s", atoi(rank), host);
        return write(s, text, (size_t)n) != n;
    }
    int s = reach(first_node(), 1);
    listen(s, 64);
    for (int i = 1; i < atoi(size); i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        char name[64] = "?";
        int c = accept(s, (struct sockaddr *)&from, &len);
        ssize_t n, got = 0;
        while ((n = read(c, text + got, sizeof text - 1 - (size_t)got)) > 0)
            got += n;
        text[got] = 0;
        getnameinfo((struct sockaddr *)&from, len, name, sizeof name, NULL, 0, 0);
        printf("%s, from %s\n", text, name);
        close(c);
    }
    return 0;
}
