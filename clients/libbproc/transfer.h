/* transfer.h - an image of this process on its way to nodes */
#ifndef LIBBPROC_TRANSFER_H
#define LIBBPROC_TRANSFER_H
#include "bus/elf.h"
#include "clients/libbproc/lib.h"
#include "clients/libbproc/save.h"
#include "image/ticket.h"

struct kept_child {
    pid_t pid;
    bool stopped;
    bool told; /* of all that has happened to it */
};

struct transfer {
    struct start s; /* io and iolen are the caller's; the rest is filled in */
    int flags;      /* BPROC_DUMP_* */
    const struct file_list *also; /* files that it will need there; NULL: none */
    bool self;      /* we go ourselves, and no copy of us */
    const int32_t *pids; /* else: of the copies' stand-ins */
    uint64_t launch;
    struct saving v;
    struct dump_rule rule;
    char *text;  /* our command line, which argv points into */
    char **argv;
    mp_buf maps; /* files that the image names: [path, size, crc] */
    uint32_t nmaps;
    bool stands; /* what we were stands for us, or for a parent, where we were */
    mp_buf kept; /* with self */
    struct kept_child *child; /* s.nkept of them */
    bool heard; /* a SIGCHLD waited for us when we left */
    struct image_ticket ticket;
};

/* With all signals blocked. -1: errno. */
int transfer_open(struct transfer *t, bool timers);
/* kept.c, with self: the children that we have. -1: errno, EBUSY if some cannot be kept. */
int kept_open(struct transfer *t);
void kept_arrived(struct transfer *t); /* we are there */
void kept_close(struct transfer *t);
/* Have restorers stand on nodes; code[i] as launch_ask() gives it. */
int transfer_ask(struct transfer *t, const int *node, const int32_t *pid, const int *index,
                 uint32_t n, int *code);
/* Send the image and have the copies go on. 0: they do, as far as code[i] is 0;
 * -1: none does; N + 1: we are copy N. */
int transfer_send(struct transfer *t, const int *node, uint32_t n, int *code);
/* We run elsewhere: signals that have come here go after us. */
void transfer_pass(struct transfer *t);
void transfer_close(struct transfer *t, bool stays);

/* _bproc_move_io(), with files that are to be there too, as far as the master has them. */
int move_with(int node, const struct bproc_io_t *io, int iolen, int flags,
              const struct file_list *also);

#endif
