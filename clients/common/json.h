/* json.h - values of the wire as JSON
 *
 * Text stays text, with U+FFFD for bytes that are no UTF-8. Bytes are text if
 * they are printable, else {"hex": "0a1b"}. Integers over 2^63 are text.
 */
#ifndef CLIENTS_JSON_H
#define CLIENTS_JSON_H
#include <jansson.h>
#include <msgpack.h>
#include <stddef.h>

/* A new reference, NULL only when out of memory. */
json_t *json_of(const msgpack_object *o);
json_t *json_text(const char *s, size_t len); /* with U+FFFD where needed */

/* One JSON document and a newline on stdout: indented on a terminal, else one
 * line. Takes the reference. -1: out of memory (also for v NULL), or stdout
 * was lost. */
int json_print(json_t *v);

#endif
