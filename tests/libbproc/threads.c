/* threads.c - a process of two threads is neither dumped nor moved */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include "clients/libbproc/bproc.h"

static int p[2];

static void *wait_for_end(void *arg)
{
    char c;

    (void)arg;
    return read(p[0], &c, 1) < 0 ? p : NULL;
}

int main(void)
{
    pthread_t t;

    if (pipe(p) < 0 || pthread_create(&t, NULL, wait_for_end, NULL))
        return 2;
    int rc = bproc_dump(p[1], 0), code = errno;
    close(p[1]);
    pthread_join(t, NULL);
    printf("%d %d\n", rc, code);
    return !(rc == -1 && code == EBUSY);
}
