/* everywhere.c - run a program once on each node of a list, and tell how it ended
 *
 *     cc -o everywhere everywhere.c -lbproc
 *     ./everywhere up hostname
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/bproc.h>
#include <sys/wait.h>

extern char **environ;

/* The program is looked for where the shell would. */
static const char *find(const char *name)
{
    static char path[4096];
    char command[4096];
    FILE *f;

    snprintf(command, sizeof command, "command -v '%s'", name);
    f = popen(command, "r");
    if (!f || fscanf(f, "%4095s", path) != 1)
        return name;
    pclose(f);
    return path;
}

int main(int argc, char **argv)
{
    struct bproc_node_set_t nodes = BPROC_EMPTY_NODESET;

    if (argc < 3) {
        fprintf(stderr, "usage: %s NODES COMMAND [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    if (bproc_nodespec(&nodes, argv[1]) < 0) {
        fprintf(stderr, "%s: %s\n", argv[1], bproc_strerror(errno));
        return 1;
    }

    int n = nodes.size, *list = calloc(n + 1, sizeof *list), *pids = calloc(n + 1, sizeof *pids);
    for (int i = 0; i < n; i++)
        list[i] = bproc_node_set_node(&nodes, i)->node;
    if (n > 0 && bproc_vexecmove(n, list, pids, find(argv[2]), argv + 2, environ) < 0) {
        perror("bproc_vexecmove");
        return 1;
    }
    for (int i = 0; i < n; i++) {
        int status;
        if (pids[i] < 0) /* why it was not started there */
            printf("%d: %s\n", list[i], bproc_strerror(pids[i]));
        else if (waitpid(pids[i], &status, 0) == pids[i] && WIFEXITED(status))
            printf("%d: exit %d\n", list[i], WEXITSTATUS(status));
        else
            printf("%d: signal %d\n", list[i], WTERMSIG(status));
    }
    free(pids);
    free(list);
    bproc_nodeset_free(&nodes);
    return 0;
}
