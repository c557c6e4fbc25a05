/* table.h - what the tables of the clients share: width, modes, times
 *
 * Units: columns of the terminal; times are milliseconds since the epoch.
 */
#ifndef CLIENTS_TABLE_H
#define CLIENTS_TABLE_H
#include <stdint.h>
#include <stdio.h>

/* Columns of the terminal on stdout; 80 when it is none or does not say. */
int table_width(void);

/* "---x--x--x" for the execute bits of a node's mode. */
void table_mode(char out[11], unsigned mode);

/* Local time "2026-01-31 23:59:58"; "-" for a time that is not known (<= 0). */
void table_time(char out[32], int64_t ms);

/* Print text of others on one line: control characters become '?'.
 * At most max columns' worth of bytes (0: all), never half a character. */
void table_text(FILE *f, const char *s, size_t len, size_t max);

#endif
