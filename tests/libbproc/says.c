/* says.c - counts to COUNT on stdout, moving on after each share of it
 *
 *     says COUNT[:MICROSECONDS] NODE...     a pause after each number
 *
 * A move that fails while services are on their way up is tried again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/libbproc/bproc.h"

int main(int argc, char **argv)
{
    int count, at = 0, pause = 0;

    if (argc < 3)
        return 2;
    count = atoi(argv[1]);
    if (strchr(argv[1], ':'))
        pause = atoi(strchr(argv[1], ':') + 1);
    for (int n = 2; n < argc; n++) {
        int tries = pause ? 100 : 1;
        while (tries > 0 && bproc_move(atoi(argv[n])) < 0) {
            tries--;
            usleep(100000);
        }
        if (!tries) {
            fprintf(stderr, "move to %s: %s\n", argv[n], bproc_strerror(errno));
            return 1;
        }
        for (int share = count / (argc - 2); share > 0 || n == argc - 1; share--) {
            if (at == count)
                break;
            dprintf(1, "%d\n", ++at);
            usleep((useconds_t)pause);
        }
    }
    return 0;
}
