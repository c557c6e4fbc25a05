/* kin.h - a process's descendants, as /proc shows them
 *
 * A process that is its children's reaper (PR_SET_CHILD_SUBREAPER) cannot lose
 * one: whoever has daemonised is its child by then.
 */
#ifndef BUS_KIN_H
#define BUS_KIN_H
#include <sys/types.h>

/* Signal (0: only count) every descendant of root, but for except and those
 * below it (0: nobody). How many; what is being started meanwhile is missed, so
 * who wants all gone asks until it is 0. -1: /proc cannot be read. */
int kin_signal(pid_t root, pid_t except, int sig);

/* Signal every process of this session that is this user's. As above. */
int kin_signal_session(pid_t sid, uid_t uid, int sig);

/* When the process began, in ticks since the machine did: with its number that
 * names it for good. 0: it is not there, or a zombie. */
unsigned long long kin_began(pid_t pid);

/* Its state, a letter of proc(5): T stopped, t held by a tracer, Z ended. 0: it is not
 * there. */
char kin_state(pid_t pid);

#endif
