/* nearest.h - which of these words was meant? For "did you mean" texts */
#ifndef BUS_NEAREST_H
#define BUS_NEAREST_H
#include <stddef.h>

/* The word of words[0..n) that a typing slip could have turned into text:
 * letters swapped, missing, added or wrong, in either case. NULL: none is near. */
const char *nearest_word(const char *text, const char *const *words, size_t n);

#endif
