/* plan.c - the command line as a list of steps
 *
 * All of it is read, and checked, before the first step is taken: a slip in
 * the last option does not leave half of the work done.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpctl/bpctl.h"
#include "clients/common/opt.h"
#include "clients/common/users.h"

static const char usage[] =
    "Usage: bpctl {-S NODES | -M} ACTION ... [-S NODES ACTION ...]\n"
    "Change nodes. Options are acted on from left to right.\n"
    "\n"
    "  -S, --slave NODES      the nodes that the following actions are for\n"
    "  -M, --master           the master\n"
    "\n"
    "  -s, --state STATE      set the state\n"
    "      --why TEXT         with -s: the reason, shown by bpstat -x\n"
    "  -m, --mode MODE        who may start work: octal, 0111 is everybody\n"
    "  -u, --user USER        owner\n"
    "  -g, --group GROUP      group\n"
    "  -R, --reboot           restart\n"
    "  -H, --halt             stop\n"
    "  -P, --pwroff           switch off\n"
    "  -r, --chroot DIR       directory on the node that later processes see as /\n"
    "      --reconnect MASTER[:PORT[,LOCAL[:PORT]]]\n"
    "                         connect anew, to this address\n"
    "      --accept KEY       take the agent with this key as the node (or enough of\n"
    "                         the key's beginning; one node)\n"
    "      --forget           forget the node's key\n"
    "      --pending          list the agents that wait to be accepted (no -S needed)\n"
    "      --json             with --pending: as JSON\n"
    "  -f                     ignored\n"
    "  -h, --help             this text\n"
    "  -v, -V, --version      version\n"
    "\n"
    "NODES: 5  5-8  5-  all  up  notdown ..., comma separated.\n";

enum { OPT_RECONNECT = 256, OPT_WHY, OPT_ACCEPT, OPT_FORGET, OPT_PENDING, OPT_JSON };

static const struct option longopts[] = {
    { "master", no_argument, NULL, 'M' },
    { "slave", required_argument, NULL, 'S' },
    { "state", required_argument, NULL, 's' },
    { "why", required_argument, NULL, OPT_WHY },
    { "mode", required_argument, NULL, 'm' },
    { "user", required_argument, NULL, 'u' },
    { "group", required_argument, NULL, 'g' },
    { "chroot", required_argument, NULL, 'r' },
    { "reboot", no_argument, NULL, 'R' },
    { "halt", no_argument, NULL, 'H' },
    { "pwroff", no_argument, NULL, 'P' },
    { "reconnect", required_argument, NULL, OPT_RECONNECT },
    { "accept", required_argument, NULL, OPT_ACCEPT },
    { "forget", no_argument, NULL, OPT_FORGET },
    { "pending", no_argument, NULL, OPT_PENDING },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

/* An ADDRESS[:PORT]; returns what follows, NULL if it is none. */
static const char *address(const char *s)
{
    size_t len = strcspn(s, ":,");
    int64_t port;

    if (len == 0)
        return NULL;
    s += len;
    if (*s == ':') {
        char digits[8];

        len = strcspn(++s, ",");
        if (len >= sizeof(digits))
            return NULL;
        memcpy(digits, s, len);
        digits[len] = '\0';
        if (!opt_number(digits, 10, 1, 65535, &port))
            return NULL;
        s += len;
    }
    return s;
}

static bool is_reconnect(const char *s)
{
    s = address(s);
    if (s && *s == ',')
        s = address(s + 1);
    return s && *s == '\0';
}

/* A bad value: the message, and exit status 1. */
static int bad_value(const char *what, const char *text, int *status)
{
    fprintf(stderr, "bpctl: %s: %s\n", what, text);
    *status = EXIT_FAILURE;
    return 1;
}

/* What one option means. arg is its argument, NULL without one. */
static int step_of(int c, char *arg, struct step *s, int *status, struct err *err)
{
    s->text = arg;
    switch (c) {
    case 'S': s->action = ACT_TARGET; break;
    case 'M': s->action = ACT_TARGET; s->text = "master"; break;
    case 's': s->action = ACT_STATE; break;
    case 'R': s->action = ACT_CONTROL; s->control = "reboot"; break;
    case 'H': s->action = ACT_CONTROL; s->control = "halt"; break;
    case 'P': s->action = ACT_CONTROL; s->control = "pwroff"; break;
    case 'r': s->action = ACT_CONTROL; s->control = "chroot"; break;
    case OPT_RECONNECT:
        s->action = ACT_CONTROL;
        s->control = "reconnect";
        if (!is_reconnect(arg))
            return bad_value("Invalid argument", arg, status);
        break;
    case 'm':
        s->action = ACT_MODE;
        if (!opt_number(arg, 8, 0, 07777, &s->number))
            return bad_value("Invalid number", arg, status);
        break;
    case 'u':
        s->action = ACT_USER;
        if (!users_parse(arg, &s->number))
            return bad_value("Invalid user id", arg, status);
        break;
    case 'g':
        s->action = ACT_GROUP;
        if (!users_parse_group(arg, &s->number))
            return bad_value("Invalid user id", arg, status);
        break;
    case OPT_ACCEPT: s->action = ACT_ACCEPT; break;
    case OPT_FORGET: s->action = ACT_FORGET; break;
    case OPT_PENDING: s->action = ACT_PENDING; break;
    default: return err_set(err, EINVAL, "unknown option");
    }
    return 0;
}

static const char *option_name(int c, char room[32])
{
    for (const struct option *o = longopts; o->name; o++)
        if (o->val == c)
            return snprintf(room, 32, "--%s", o->name) > 0 ? room : "";
    return "";
}

/* A reason belongs to the -s before it, or waits for the next one. */
static int place_why(struct plan *p, const char **waiting, struct err *err)
{
    struct step *last = p->n > 0 ? &p->step[p->n - 1] : NULL;

    if (!*waiting || !last || last->action != ACT_STATE)
        return 0;
    if (last->why)
        return err_set(err, EINVAL, "--why: one reason is enough for -s %s", last->text);
    last->why = *waiting;
    *waiting = NULL;
    return 0;
}

/* One option of the command line becomes one step, or a property of one. */
static int take(struct plan *p, int c, char *arg, bool *target, const char **why,
                int *status, struct err *err)
{
    char name[32];
    struct step s = { 0 };
    int rc;

    if (c == 'f')
        return 0;
    if (c == OPT_JSON) {
        p->json = true;
        return 0;
    }
    if (c == OPT_WHY) {
        if (*why)
            return err_set(err, EINVAL, "--why: given twice before -s STATE");
        *why = arg;
        return place_why(p, why, err);
    }
    rc = step_of(c, arg, &s, status, err);
    if (rc != 0)
        return rc;
    if (s.action == ACT_TARGET)
        *target = true;
    else if (s.action != ACT_PENDING && !*target)
        return err_set(err, EINVAL, "%s: name the nodes first: -S NODES, or -M",
                       option_name(c, name));
    p->step[p->n++] = s;
    return place_why(p, why, err);
}

int plan_make(struct plan *p, int argc, char **argv, int *status, struct err *err)
{
    const char *why = NULL;
    bool target = false;
    int c, rc;

    /* no more steps than letters: "-RH" is two in one word */
    size_t most = 1;
    for (int i = 1; i < argc; i++)
        most += strlen(argv[i]) + 1;
    p->step = calloc(most, sizeof(*p->step));
    if (!p->step)
        return err_set(err, ENOMEM, "out of memory");
    while ((c = getopt_long(argc, argv, "+MS:s:m:u:g:r:RHPfhvV", longopts, NULL)) != -1) {
        if (c == '?')
            return err_set(err, EINVAL, "see bpctl --help");
        if (c == 'h' || c == 'v' || c == 'V') {
            if (c == 'h')
                fputs(usage, stdout);
            *status = c == 'h' ? opt_finish("bpctl") : opt_version("bpctl");
            return 1;
        }
        rc = take(p, c, optarg, &target, &why, status, err);
        if (rc != 0)
            return rc;
    }
    if (optind < argc)
        return err_set(err, EINVAL, "%s: not an option: nodes are named by -S NODES",
                       argv[optind]);
    if (why)
        return err_set(err, EINVAL, "--why: goes with -s STATE");
    if (p->n == 0)
        return err_set(err, EINVAL, "nothing to do: see bpctl --help");
    return 0;
}

void plan_free(struct plan *p)
{
    free(p->step);
}
