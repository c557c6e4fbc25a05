/* mover.h - a process that knows nothing of it goes to another machine
 *
 *   run.c       the flow: look, stop, send, the word, the end of the old self
 *   look.c      what stands in the way
 *   pipes.c     pipes that it has to itself
 *   kept.c      its children, which stay
 *   files.c     what it has open, and how that is carried
 *   freeze.c    stopping it, and system calls in its name
 *   back.c      it comes back to itself, if its mover dies in the middle of one
 *   collect.c   what an image needs that only the process itself is told
 *   request.c   what it would have asked the cluster
 *   ghost.c     the old self becomes a ghost, on a node if it has relatives there
 *   note.c      for who ends a move whose mover has died
 *   main.c      the program bpmover: for processes of the master
 *
 * On a node bpinit runs it in a child of its own; on the master procspace starts
 * bpmover. With the right to trace the process, and beside it: same process
 * numbers, same files. Only look.c and files.c are needed to say whether it could
 * go; they touch nothing.
 *
 * To the cluster the process itself asks: its connections are made in its name,
 * so that the kernel's word on who asks is about it (doc/moving.md).
 */
#ifndef MOVER_MOVER_H
#define MOVER_MOVER_H
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>
#include "bus/err.h"
#include "bus/gate.h"
#include "bus/mp.h"
#include "image/ticket.h"
#include "image/write.h"

struct mover_conf {
    pid_t pid;
    int to;            /* node; -1 the master */
    bool check;        /* only look */
    bool no_input;     /* its standard input may become empty */
    bool node;         /* we are on a node */
    const char *run;   /* the folder of gate and move there */
    uint64_t stream[3]; /* inodes of the pipes that are its streams; 0 none */
    pid_t like;        /* of this one's namespaces it must be */
    int note;          /* where a note goes for who ends what we have begun */
};

/* Packs {code, text, hindrances: [[what, text]...]}: code 0: it could go, or has gone;
 * EBUSY with hindrances: what stands in the way; else an errno, and it goes on where
 * it was. */
void mover_run(const struct mover_conf *c, mp_buf *result);
/* The same of a move whose mover has died: it has gone, or goes on where it was. note:
 * what it has written, a map with "launch" and more; code ECANCELED: it was called off. */
void mover_end(const struct mover_conf *c, const msgpack_object *note, mp_buf *result);

/* --- what stands in the way --- */
struct hindrances {
    mp_buf rows;
    uint32_t n;
};
void hindered(struct hindrances *h, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What mover_run() packs; NULL: nothing stands in the way. */
void mover_result(const struct err *err, const struct hindrances *h, mp_buf *result);

/* --- what it has open --- */
#define HELD_MAX 256

enum held_kind { HELD_FILE, HELD_STREAM, HELD_SAME, HELD_PIPE, HELD_NOTHING };
struct held {
    int fd, flags; /* O_* */
    int64_t at;     /* HELD_PIPE: its size */
    enum held_kind kind;
    int of;         /* HELD_STREAM: which; HELD_SAME: the descriptor that it is a copy of;
                     * HELD_PIPE: that of its other end, -1: that is yet to come */
    char *path;     /* HELD_FILE */
    uint64_t inode; /* HELD_PIPE */
    bool shared;    /* others have this pipe open, too */
};
struct held_list {
    struct held *v;
    size_t n;
};
void held_free(struct held_list *l);
int held_look(const struct mover_conf *c, struct held_list *l, struct hindrances *h,
              struct err *err);
/* Its records of an image. */
int held_write(const struct mover_conf *c, const struct held_list *l, struct image_writer *w);
bool held_stream(const struct held_list *l, int fd); /* is fd carried as a stream? */
/* A copy of its descriptor; -1: errno. */
int held_copy(pid_t pid, int fd);

/* --- pipes.c --- */
/* Of those of kind HELD_PIPE: which go along, and what hinders the others. */
void pipes_look(const struct mover_conf *c, struct held_list *l, struct hindrances *h);

/* --- look.c --- */
int look(const struct mover_conf *c, struct held_list *l, struct hindrances *h,
         struct err *err);
/* A file of /proc/PID: fresh text with its length in *len (may be NULL); NULL: errno. */
char *proc_text(pid_t pid, const char *name, size_t *len);
/* The number after this key in status; dflt if it is not there. */
uint64_t status_number(const char *status, const char *key, int base, uint64_t dflt);

/* --- kept.c --- */
/* One that has ended stands in the way, until it is waited for. */
void kept_look(pid_t pid, struct hindrances *h);
bool kept_ended(pid_t pid); /* is there such a one? */

/* --- freeze.c --- */
struct frozen {
    pid_t pid;
    int pidfd, mem;
    bool held;                   /* it stands still */
    bool borrowed;               /* its registers and mask are ours */
    bool parked;                 /* without us it would wait for ever, and not run */
    bool runs;                   /* parked: it waits, and is not stopped */
    bool behind;                 /* it is stopped behind a call */
    bool alarmed;                /* a SIGALRM was waiting already */
    bool was_stopped;            /* a SIGSTOP came meanwhile */
    struct user_regs_struct regs; /* as it was */
    uint64_t mask;
    uint64_t call_at;            /* a system call instruction of its own */
    uint64_t back_at;            /* code of its own that calls rt_sigreturn(2); 0: none */
    uint64_t frame;              /* for that, FRAME_BYTES; 0: no way back is prepared */
    bool other;                  /* it is the second of two places */
    int undo_fd;                 /* closed on that way; -1: none */
    uint64_t room, room_bytes;   /* memory of ours in it, behind BACK_BYTES for frames */
    bool mapped;                 /* frames may lie there */
};
int freeze(struct frozen *f, pid_t pid, struct err *err);
/* It may run elsewhere from now on: until thaw() it does not run here, whatever
 * becomes of us. Before that, what must be known to go on with it is noted. */
int frozen_park(struct frozen *f, struct err *err);
void frozen_note(const struct frozen *f, mp_buf *m);
/* Of another mover, which has died: parked says how far it was. */
int frozen_again(struct frozen *f, pid_t pid, const msgpack_object *note, struct err *err);
/* It has only just come here, and is not itself yet. */
bool frozen_arrives(const struct frozen *f);
/* It goes on where it was, as if nothing had been. */
void thaw(struct frozen *f);
/* Between these its registers are ours, and nothing can interrupt. */
int calls_begin(struct frozen *f, struct err *err);
int calls_end(struct frozen *f, struct err *err);
/* One system call of it. -1: it has died; *out: its result, or -errno. */
int call_in(struct frozen *f, long nr, const uint64_t arg[6], int64_t *out, struct err *err);
int room_make(struct frozen *f, uint64_t bytes, struct err *err);
int room_put(struct frozen *f, uint64_t at, const void *p, size_t n, struct err *err);
int room_get(struct frozen *f, uint64_t at, void *p, size_t n, struct err *err);
/* A connection that it has made to the socket of this path. */
int frozen_connect(struct frozen *f, const char *path, struct err *err);
/* The signal of this POSIX timer waits for it. */
bool frozen_rang(struct frozen *f, int timer);
/* Signals that wait for it: rows of [sig, value or nil]; how many. */
uint32_t frozen_signals(struct frozen *f, mp_buf *rows);
/* It runs elsewhere: its old self ends, */
void frozen_end(struct frozen *f);
/* or executes this in its place. */
int frozen_exec(struct frozen *f, const char *path, char *const *argv, char *const *envp,
                struct err *err);

/* --- back.c --- */
#define FRAME_BYTES 20480u
#define BACK_BYTES (2 * FRAME_BYTES) /* one in use, one that is written */
#define XSTATE_ROOM 16384
struct xstate {
    unsigned char data[XSTATE_ROOM];
    size_t len;
};
/* Where such code is: call_at, back_at; 0 both, if not both are there. */
void back_find(struct frozen *f);
bool back_runs(const struct frozen *f, uint64_t rip); /* it is there */
/* Room for frames where nothing of its is; 0: we do not know any. */
uint64_t back_below_stack(const struct frozen *f);
/* So many bytes where it has no memory, and will not have any soon; 0. */
uint64_t back_gap(const struct frozen *f, uint64_t bytes);
/* How it goes on: f->regs, with a call that was interrupted about to be made anew. */
void back_registers(const struct frozen *f, struct user_regs_struct *r);
/* The frames at f->frame: it closes undo_fd, gives up the room unless it is parked, and
 * goes on with r, this mask and its processor's state. */
int back_write(struct frozen *f, const struct user_regs_struct *r, uint64_t mask);
int back_state(const struct frozen *f, struct xstate *x);

/* --- note.c --- */
/* On the master, of this path: ours as long as it is open. *end becomes true where another
 * mover has left one, and must be for one that has to be there. -1: EBUSY, it is another's. */
int note_open(const char *path, bool *end, struct err *err);
int note_write(const struct mover_conf *c, uint64_t launch, const struct frozen *f,
               struct err *err);
/* mover_end() of what is noted there. */
void note_end(struct mover_conf *c, mp_buf *result);

/* --- collect.c --- */
int collect(struct frozen *f, struct image_writer *w, struct xstate *x, struct err *err);

/* --- request.c --- */
struct request {
    const struct mover_conf *c;
    struct frozen *f;
    uint64_t launch;
    char *cmdline; /* argv points into it */
    char **argv;
    mp_buf maps;
    uint32_t nmaps;
    struct image_ticket ticket;
    uint32_t kept; /* children that it has */
    bool stands;   /* on its node its old self stands for it, or for a parent */
};
int request_open(struct request *r, struct image_writer *w, struct err *err);
int request_again(struct request *r, struct err *err); /* of a launch that was begun before */
void request_close(struct request *r);
/* Have it stand ready on the other machine. */
int request_launch(struct request *r, const struct held_list *l, const struct image_writer *w,
                   struct err *err);
int request_way(struct request *r, struct err *err); /* where the image goes; -1 */
/* The word: 0 it runs there; -1 it does not, and will not. */
int request_moved(struct request *r, bool abort_it, bool cut, struct err *err);
void request_pass(struct request *r);

/* --- ghost.c --- */
/* It runs elsewhere, and its old self stands for it. On the master what it says there
 * is copied to where it went. */
void become_ghost(struct frozen *f, const struct request *r, const struct held_list *l);

#endif
