/* bpsh.h - one run of bpsh, and what its parts offer each other
 *
 *   options.c  the command line
 *   command.c  how the command is to be started
 *   launch.c   from the node specification to the answer of the launch
 *   ghosts.c   stand-ins, children of ours, one for each remote process
 *   local.c    processes on the master itself, real children
 *   procs.c    the table of both: waiting for them, their statuses
 *   signals.c  what we are told to do while they run
 *   reader.c   their streams, by way of iofwd      bulk.c   in bulk
 *   onward.c   and those of processes that move
 *   output.c   what arrives, on stdout and stderr  sink.c   without waiting
 *   fold.c     the same, equal output once         input.c  stdin
 *   calls.c    requests over the gate      tell.c   --report-fd
 *   main.c     opens all that, runs the loop, and ends with the right status
 */
#ifndef BPSH_H
#define BPSH_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "bus/err.h"
#include "bus/gate.h"
#include "bus/loop.h"
#include "clients/common/calls.h"
#include "clients/common/find.h"
#include "clients/bpsh/fold.h"
#include "clients/bpsh/input.h"
#include "clients/bpsh/options.h"
#include "clients/bpsh/output.h"
#include "clients/bpsh/reader.h"

enum { EXIT_REFUSED = 1, EXIT_TIMEOUT = 124, EXIT_NOEXEC = 127, EXIT_SIGNALLED = 255 };

struct proc {
    int node;      /* -1: the master, a child of ours */
    uint32_t rank; /* in the launch; those of the master come after its last */
    pid_t pid;     /* the ghost, or the child; 0: not there (any more) */
    pid_t was;     /* the same, kept */
    bool failed;   /* it was never started; said so */
    bool early;    /* ended before the launch was answered, with */
    int early_status;
    bool killed;   /* died by SIGKILL: its node may be lost */
    bool lost;     /* its streams are gone before their end */
    uint64_t folded[2];
    unsigned over, quiet; /* bits of streams that have ended; that may go on elsewhere */
    int code;      /* nodemgr: 0, or why nothing may be started there */
    char *why;
    struct local *local; /* pipes of a child */
};

struct bpsh {
    struct options opt;
    struct proc *proc; /* in the order of the node specification */
    uint32_t procs;
    uint32_t *by_rank; /* index of each rank of the launch, 0..remote-1 */
    uint32_t remote;
    uint32_t alive;    /* with a pid */
    struct proc **by_pid; /* sorted */
    uint32_t pids;

    char *path;      /* of the command, absolute */
    char *via;       /* of what is started in its place; NULL: itself */
    bool forward[3]; /* stdin, stdout, stderr come through us */
    uint64_t launch;
    bool answered;   /* the launch was */
    uint64_t window; /* bytes of a stream that may wait with us */
    int64_t began_ns;

    loop_t *loop;
    calls_t *calls;   /* NULL: nothing remote */
    reader_t *reader; /* NULL: nothing remote is forwarded */
    struct onward *onward; /* NULL: nobody has moved */
    output_t *output;
    fold_t *fold;     /* NULL: output goes out at once */
    input_t *input;   /* NULL: nobody gets our stdin */
    struct bulk_run *bulk;
    int sigfd;
    int watch_timer;  /* launch.c: asks about nodes that may be lost */

    int status;       /* highest so far */
    int interrupted;  /* SIGINT or SIGQUIT came from the terminal */
    bool died_of_it;  /* and a process died by that */
    int told;         /* the last signal that was to end us or them */
    bool timed_out;   /* --timeout */
    bool leaving;     /* give up at once, with this status: */
    int leave_status; /* < 0: die by that signal */
};

void status_raise(struct bpsh *b, int status); /* the highest counts */
void leave(struct bpsh *b, int status);

/* main.c */
void proc_data(struct bpsh *b, struct proc *p, int fd, const void *data, size_t n);
void proc_end(struct bpsh *b, struct proc *p, int fd, bool lost, bool moved);
void output_broken(struct bpsh *b, int fd, int code);

/* command.c */
char *command_nodes(const struct bpsh *b); /* of all processes, by rank; caller frees */
uint32_t command_pairs(const struct bpsh *b); /* of the launch's map that command_pack() fills */
int command_pack(struct bpsh *b, mp_buf *m, struct err *err);

/* launch.c */
uint64_t launch_id(void);
int launch_resolve(struct bpsh *b, gate_t **gate, struct err *err);
int launch_send(struct bpsh *b, struct err *err);
void launch_failure(struct bpsh *b, struct proc *p, int code, const char *text);
void launch_maybe_lost(struct bpsh *b); /* a ghost died by SIGKILL */

/* ghosts.c: start says how to go on; finish reads the pids */
int ghosts_start(struct bpsh *b, int *pids_fd, struct err *err);
int ghosts_finish(struct bpsh *b, int pids_fd, struct err *err);

/* local.c */
int local_start(struct bpsh *b, struct err *err);
void local_taken(struct bpsh *b, struct proc *p, int fd, uint64_t taken);
void local_free(struct bpsh *b, struct proc *p);

/* procs.c */
int procs_index(struct bpsh *b, struct err *err); /* all pids are known */
void procs_reap(struct bpsh *b);
void procs_answered(struct bpsh *b); /* the launch was, and failures are noted */
void procs_kill(struct bpsh *b, int sig);
void procs_end_streams(struct bpsh *b, struct proc *p); /* nothing more comes from it */
void procs_free(struct bpsh *b);

/* signals.c */
int signals_open(struct bpsh *b, struct err *err);
int signals_watch(struct bpsh *b, struct err *err);
void signals_in_child(void); /* after fork or vfork: as we found them */
void signals_die(int sig);   /* by its default action */
bool signals_pipe_default(void); /* would a SIGPIPE have ended us? */

/* onward.c */
/* A stream has ended; true: since it has moved, and may say more elsewhere. */
bool onward_end(struct bpsh *b, struct proc *p, int fd, bool moved);
/* True: it is read elsewhere, where that many bytes in all are out of our hands. */
bool onward_taken(struct bpsh *b, struct proc *p, int fd, uint64_t taken);
void onward_turn(struct bpsh *b);
void onward_forget(struct bpsh *b, struct proc *p);
void onward_close(struct bpsh *b);

/* tell.c: to whoever gave us --report-fd */
void tell_launch(struct bpsh *b);
void tell_started(struct bpsh *b, const struct proc *p);
void tell_failed(struct bpsh *b, const struct proc *p, const char *why);
void tell_ended(struct bpsh *b, const struct proc *p, int status);

/* bulk.c */
void bulk_begin(struct bpsh *b, uint32_t rank, uint64_t offset, const struct bulk_ticket *t,
                int sock);
void bulk_pump(struct bpsh *b);
bool bulk_reaped(struct bpsh *b, pid_t pid, int status); /* true: it was one of ours */
void bulk_end(struct bpsh *b);

#endif
