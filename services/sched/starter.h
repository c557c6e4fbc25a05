/* starter.h - processes that outlive sched: the starter and the runners
 *
 * The starter (bjsrun) is a small program of its own, so that a fork of it costs
 * little whatever sched holds. It makes a runner for each batch job and ends with
 * sched. A runner stays until its job has ended and sched has taken
 * its report, however often sched is restarted meanwhile; it is the reaper of
 * all that the job starts, so nothing of it gets away.
 *
 * Packets (bus/pkt.h), msgpack maps. To the starter: see start.c. Runner to
 * sched, over RUN/sched/runners: {job, attempt, pid, sid, started} when it
 * connects; {job, attempt, ended, status, utime, stime, maxrss, why?} at the end.
 * sched to runner: {sig} to all processes of the job; {kill: true} end them all;
 * {ack: true} the report is on the disk.
 *
 * RUN/sched/ID.ATTEMPT exists once this attempt was started, names its runner and
 * is locked as long as that lives: who makes the file first decides whether it
 * runs; sched makes it empty, and then it never will. It is made through a folder
 * that each life of sched has of its own (the gate) and that the next one takes
 * away: a starter of before that comes late can start nothing, whatever became of
 * the job and its files meanwhile.
 */
#ifndef SCHED_STARTER_H
#define SCHED_STARTER_H
#include <msgpack.h>
#include <stdint.h>
#include "bus/err.h"

/* RUN/sched, made, and the gate; then the starter. Returns sched's end of its socket. */
int starter_begin(struct err *err);

/* In a fork of the starter: never returns. */
void runner_main(const msgpack_object *job, const char *gate) __attribute__((noreturn));

/* "RUN/sched/NAME" in a buffer of PATH_MAX. */
char *sched_path(char *buf, const char *name);
char *sched_lock_path(char *buf, uint64_t job, uint32_t attempt);

#endif
