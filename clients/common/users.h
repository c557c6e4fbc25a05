/* users.h - names of user and group ids, each asked for once
 *
 * An id without a name reads "#123". The texts live until the program ends.
 * Threads: none.
 */
#ifndef CLIENTS_USERS_H
#define CLIENTS_USERS_H
#include <stdbool.h>
#include <stdint.h>

const char *users_name(int64_t uid);
const char *users_group(int64_t gid);

/* A name, or a number, to an id; false if it is neither. A name wins, so that
 * a user called 1000 is meant by "1000". */
bool users_parse(const char *text, int64_t *uid);
bool users_parse_group(const char *text, int64_t *gid);

#endif
