/* conf.c - node_up.conf: which plugins, in which order
 *
 *     path DIR:DIR...
 *     [failok] [plugin] NAME [ARGUMENT...]
 */
#include "clients/node_up/node_up.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/config.h"

#define ARGS_MAX 100

static int add_step(struct plan *p, int argc, char **argv, bool failok, struct err *err)
{
    struct step *more = realloc(p->step, (p->nstep + 1) * sizeof *more);

    if (!more)
        return err_set(err, ENOMEM, "out of memory");
    p->step = more;
    struct step *s = &more[p->nstep];
    *s = (struct step){ .argv = calloc((size_t)argc + 1, sizeof *s->argv), .failok = failok };
    if (!s->argv)
        return err_set(err, ENOMEM, "out of memory");
    p->nstep++;
    for (; s->argc < argc; s->argc++)
        if (!(s->argv[s->argc] = strdup(argv[s->argc])))
            return err_set(err, ENOMEM, "out of memory");
    return 0;
}

static int on_line(void *arg, int argc, char **argv, struct err *err)
{
    struct plan *p = arg;
    bool failok = false;

    if (strcmp(argv[0], "path") == 0) {
        if (argc != 2)
            return err_set(err, EINVAL, "path: want one list of folders, DIR:DIR...");
        free(p->path);
        p->path = strdup(argv[1]);
        return p->path ? 0 : err_set(err, ENOMEM, "out of memory");
    }
    if (strcmp(argv[0], "failok") == 0) {
        failok = true;
        argc--;
        argv++;
    }
    if (argc > 0 && strcmp(argv[0], "plugin") == 0) {
        argc--;
        argv++;
    }
    if (argc == 0)
        return err_set(err, EINVAL, "which plugin? Want [failok] plugin NAME [ARGUMENT...]");
    if (argc - 1 > ARGS_MAX)
        return err_set(err, EINVAL, "more than %d arguments for %s", ARGS_MAX, argv[0]);
    return add_step(p, argc, argv, failok, err);
}

int plan_read(struct plan *p, const char *file, bool must, struct err *err)
{
    snprintf(p->file, sizeof p->file, "%s", file);
    if (!must && access(file, F_OK) < 0)
        return 0;
    return config_each_line(file, on_line, p, err);
}

void plan_free(struct plan *p)
{
    for (size_t i = 0; i < p->nstep; i++) {
        for (int k = 0; k < p->step[i].argc; k++)
            free(p->step[i].argv[k]);
        free(p->step[i].argv);
    }
    free(p->step);
    free(p->path);
}
