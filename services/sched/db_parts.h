/* db_parts.h - between db.c and db_list.c: the statements */
#ifndef SCHED_DB_PARTS_H
#define SCHED_DB_PARTS_H
#include "bus/store.h"

struct db {
    store_t *store;
    sqlite3_stmt *put_job, *put_text, *put_after, *drop_after, *put_token, *put_usage;
    sqlite3_stmt *put_number, *number, *token, *text, *ended;
    sqlite3_stmt *load, *load_after, *load_usage;
    sqlite3_stmt *pack_one, *pack_open, *pack_ended;
    sqlite3_stmt *untold, *tell, *old, *drop_job, *drop_text, *drop_token;
    sqlite3_stmt *mark, *back;
};

#define PACK_COLUMNS \
    "SELECT job.id, pool, state, flags, uid, gid, nodes, cpus, mem, secs, priority, attempt," \
    " retries, first, place, submitted, started, ended, status, utime, stime, maxrss, reason," \
    " node_list, name, command, reqs, output, dir, node_utime, node_stime, node_maxrss" \
    " FROM job LEFT JOIN text ON text.id = job.text"

#endif
