/* says.c - counts to COUNT on stdout, moving on after each share of it
 *
 *     says COUNT NODE...
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "clients/libbproc/bproc.h"

int main(int argc, char **argv)
{
    int count, at = 0;

    if (argc < 3)
        return 2;
    count = atoi(argv[1]);
    for (int n = 2; n < argc; n++) {
        if (bproc_move(atoi(argv[n])) < 0) {
            fprintf(stderr, "move to %s: %s\n", argv[n], bproc_strerror(errno));
            return 1;
        }
        for (int share = count / (argc - 2); share > 0 || n == argc - 1; share--) {
            if (at == count)
                break;
            dprintf(1, "%d\n", ++at);
        }
    }
    return 0;
}
