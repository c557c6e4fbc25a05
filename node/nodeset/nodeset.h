/* nodeset.h - what node_up has a node do, from the inside
 *
 *   main.c    the stream of steps, and how they end
 *   make.c    files, folders, links, devices, libraries
 *   act.c     modules, addresses, mounts, sysctl, programs, what the node is
 *
 * The stream on standard input is steps: four bytes of length (big endian) and
 * a msgpack array whose first item names the step; "file" and "module" are
 * followed by their bytes. Sections ("plugin") end at the next one. What is
 * done is told in lines: "L PLUGIN TEXT" for the log, "A NAME HEX" an attribute
 * of the node, and at last "Z 0" or "Z 1 REASON".
 */
#ifndef NODE_NODESET_H
#define NODE_NODESET_H
#include <stdarg.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/mp.h"

/* Bytes that follow a step. All must be taken, or skipped by the caller. */
struct bytes {
    int fd;
    uint64_t left;
};
/* > 0 bytes, 0 at the end; -1: the stream broke off. */
ssize_t bytes_read(struct bytes *b, void *p, size_t room, struct err *err);

void note(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* a log line */

/* A step: its array without the name. 0, or -1 and *err. */
typedef int step_fn(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_dir(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_file(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_link(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_dev(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_libs(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_module(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_ifconfig(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_mount(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_sysctl(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_exec(const msgpack_object_array *a, struct bytes *b, struct err *err);
int step_info(const msgpack_object_array *a, struct bytes *b, struct err *err);

/* Item i of the array; EPROTO if it is not there or no such thing. */
int arg_text(const msgpack_object_array *a, uint32_t i, char **out, struct err *err);
int arg_int(const msgpack_object_array *a, uint32_t i, int64_t *out, struct err *err);

/* Make the folders above path, 0755, where there are none. */
int make_parents(const char *path, struct err *err);

#endif
