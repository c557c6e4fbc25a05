/* main.c - bjsctl: what is done to jobs and pools */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "bus/gate.h"
#include "clients/common/opt.h"

#define ASK_MS 60000
#define RANGE_MAX 100000

static const char usage[] =
    "Usage: bjsctl -r ID ...\n"
    "       bjsctl hold|release|requeue ID ...\n"
    "       bjsctl signal SIGNAL ID ...\n"
    "       bjsctl priority N ID ...\n"
    "       bjsctl drain|undrain POOL ...\n"
    "       bjsctl reload\n"
    "Control jobs: one's own, or anybody's as root. ID may be a range, as 12-21.\n"
    "\n"
    "  -r, --remove   end jobs, or take them out of the queue\n"
    "  hold           let waiting jobs wait until they are released\n"
    "  release        the opposite\n"
    "  requeue        end running jobs and let them wait again\n"
    "  signal         send a signal (TERM, USR1, 10 ...) to running jobs\n"
    "  priority       set priorities; above 0: root only\n"
    "  drain          let a pool start no more jobs (root)\n"
    "  undrain        the opposite\n"
    "  reload         read bjs.conf again (root)\n"
    "  -h, --help     this text\n"
    "  -V, --version  version\n";

static const struct option longopts[] = {
    { "remove", no_argument, NULL, 'r' },
    { "socket", required_argument, NULL, 'S' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

struct request {
    const char *action; /* of sched.control */
    int64_t value;      /* signal or priority */
    char **words;       /* job numbers or pools */
    int n;
};

static int usage_error(const char *what, const char *word)
{
    fprintf(stderr, "bjsctl: %s%s\n", what, word);
    return OPT_EXIT_USAGE;
}

/* The reply as the original prints it: blanks and the like escaped. */
static void print_result(int64_t id, int64_t code, const char *text)
{
    printf("%lld: ", (long long)id);
    if (!code) {
        puts("(ok)");
        return;
    }
    fputs("(error ", stdout);
    for (const char *p = text; *p; p++) {
        if (strchr(" ()\\", *p))
            putchar('\\');
        putchar(*p);
    }
    puts(")");
}

static int print_results(const msgpack_object *value, struct err *err)
{
    const msgpack_object_array *rows;
    int rc = EXIT_SUCCESS;

    if (mp_get_array(value, "results", &rows, err) < 0)
        return -1;
    for (uint32_t i = 0; i < rows->size; i++) {
        const msgpack_object *o = &rows->ptr[i];
        int64_t id, code;
        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 3 ||
            !mp_as_int(&o->via.array.ptr[0], &id) || !mp_as_int(&o->via.array.ptr[1], &code))
            return err_set(err, EPROTO, "the answer was not understood");
        CLEANUP(cleanup_free) char *text = mp_dup(&o->via.array.ptr[2]);
        print_result(id, code, text ? text : "");
        if (code)
            rc = EXIT_FAILURE;
    }
    return rc;
}

/* "12" or "12-21" into the list; false: neither. */
static bool pack_ids(const char *word, mp_buf *ids, uint32_t *n)
{
    char first[24];
    size_t len = strcspn(word, "-");
    int64_t a, b;

    snprintf(first, sizeof first, "%.*s", (int)(len < 23 ? len : 23), word);
    if (!opt_number(first, 10, 0, INT64_MAX, &a))
        return false;
    b = a;
    if (word[len] && !opt_number(word + len + 1, 10, a, a + RANGE_MAX, &b))
        return false;
    for (; a <= b; a++, ++*n)
        mp_int(ids, a);
    return true;
}

static int control(gate_t *g, const struct request *r, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(mp_free) mp_buf ids;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    uint32_t n = 0;

    mp_init(&m);
    mp_init(&ids);
    msgpack_unpacked_init(&reply);
    for (int i = 0; i < r->n; i++)
        if (!pack_ids(r->words[i], &ids, &n))
            return usage_error("want a job's number, or a range of them: ", r->words[i]);
    mp_map(&m, 3);
    mp_kstr(&m, "action", r->action);
    mp_kint(&m, strcmp(r->action, "signal") == 0 ? "sig" : "priority", r->value);
    mp_key(&m, "jobs");
    mp_array(&m, n);
    msgpack_sbuffer_write(&m.b, ids.b.data ? ids.b.data : "", ids.b.size);
    if (gate_call(g, "sched.control", &m, ASK_MS, &reply, err) < 0)
        return -1;
    return print_results(&reply.data, err);
}

static int pools(gate_t *g, const struct request *r, struct err *err)
{
    int rc = EXIT_SUCCESS;

    for (int i = 0; i < r->n; i++) {
        CLEANUP(mp_free) mp_buf m;
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
        mp_init(&m);
        msgpack_unpacked_init(&reply);
        mp_map(&m, 2);
        mp_kbin(&m, "pool", r->words[i], strlen(r->words[i]));
        mp_kbool(&m, "drain", strcmp(r->action, "drain") == 0);
        if (gate_call(g, "sched.pool", &m, ASK_MS, &reply, err) < 0) {
            fprintf(stderr, "bjsctl: %s\n", err->text);
            rc = EXIT_FAILURE;
        }
    }
    return rc;
}

static int reload(gate_t *g, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    mp_nil(&m);
    return gate_call(g, "sched.reload", &m, ASK_MS, &reply, err);
}

static int64_t signal_number(const char *word)
{
    int64_t v;

    if (opt_number(word, 10, 1, SIGRTMAX, &v))
        return v;
    if (strncasecmp(word, "SIG", 3) == 0)
        word += 3;
    for (int sig = 1; sig < 32; sig++) {
        const char *name = sigabbrev_np(sig);
        if (name && strcasecmp(name, word) == 0)
            return sig;
    }
    return 0;
}

/* The words behind the options. A usage error is its exit status, 0 is fine. */
static int parse(struct request *r, int argc, char **argv, bool remove)
{
    static const char *const plain[] = { "hold", "release", "requeue", "drain", "undrain",
                                         "reload" };
    const char *word = argc > 0 ? argv[0] : "";

    *r = (struct request){ .words = argv + 1, .n = argc - 1 };
    if (remove) {
        *r = (struct request){ .action = "remove", .words = argv, .n = argc };
        return argc ? 0 : usage_error("-r: which jobs?", "");
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(word, plain[i]) == 0)
            r->action = plain[i];
    bool sig = strcmp(word, "signal") == 0, priority = strcmp(word, "priority") == 0;
    if (sig || priority) {
        if (argc < 3)
            return usage_error(word, sig ? ": want a signal and jobs" : ": want a number and jobs");
        r->action = word;
        r->words++;
        r->n--;
        const char *v = argv[1];
        if (sig && !(r->value = signal_number(v)))
            return usage_error("there is no signal ", v);
        if (priority && !opt_number(*v == '-' ? v + 1 : v, 10, 0, 1000000, &r->value))
            return usage_error("want a number of -1000000 to 1000000: ", v);
        if (priority && *v == '-')
            r->value = -r->value;
        return 0;
    }
    if (!r->action)
        return usage_error("there is no action ", word);
    if (r->n == 0 && strcmp(word, "reload") != 0)
        return usage_error(word, strstr(word, "drain") ? ": which pool?" : ": which jobs?");
    return 0;
}

int main(int argc, char **argv)
{
    struct request r;
    struct err err = { 0 };
    bool remove = false;
    int c;

    while ((c = getopt_long(argc, argv, "+rhV", longopts, NULL)) != -1) {
        switch (c) {
        case 'r': remove = true; break;
        case 'S': break; /* the original's: there is one way in, the gate */
        case 'h': fputs(usage, stdout); return opt_finish("bjsctl");
        case 'V': return opt_version("bjsctl");
        default: fputs("Try `bjsctl --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
    }
    bool nothing = optind == argc && !remove;
    int rc = nothing ? 0 : parse(&r, argc - optind, argv + optind, remove);
    if (rc)
        return rc;
    gate_t *g = gate_open("bjsctl", &err);
    if (!g)
        rc = -1;
    else if (nothing)
        rc = EXIT_SUCCESS;
    else if (strcmp(r.action, "reload") == 0)
        rc = reload(g, &err);
    else
        rc = strstr(r.action, "drain") ? pools(g, &r, &err) : control(g, &r, &err);
    if (rc < 0)
        fprintf(stderr, "bjsctl: %s\n", err.text);
    gate_close(&g);
    return opt_finish("bjsctl") != EXIT_SUCCESS || rc < 0 ? EXIT_FAILURE : rc;
}
