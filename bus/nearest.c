/* nearest.c - edit distance with swapped neighbours, for "did you mean" texts */
#include "bus/nearest.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>

#define WORD_MAX 40 /* longer words are nobody's slip */

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance, case folded. */
static int distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    int d[WORD_MAX + 1][WORD_MAX + 1];

    if (la > WORD_MAX || lb > WORD_MAX)
        return INT_MAX;
    for (size_t i = 0; i <= la; i++)
        d[i][0] = (int)i;
    for (size_t j = 0; j <= lb; j++)
        d[0][j] = (int)j;
    for (size_t i = 1; i <= la; i++) {
        for (size_t j = 1; j <= lb; j++) {
            int ca = tolower((unsigned char)a[i - 1]);
            int cb = tolower((unsigned char)b[j - 1]);
            int best = least(d[i - 1][j], d[i][j - 1]) + 1;

            best = least(best, d[i - 1][j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                cb == tolower((unsigned char)a[i - 2]))
                best = least(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

const char *nearest_word(const char *text, const char *const *words, size_t n)
{
    size_t len = strlen(text);
    int limit = len < 3 ? 1 : len < 6 ? 2 : 3;
    const char *found = NULL;

    for (size_t i = 0; i < n; i++) {
        int d = distance(text, words[i]);
        /* A word that shares nothing with the text is not a slip of it. */
        if (d <= limit && d < (int)len && d < (int)strlen(words[i])) {
            limit = d - 1;
            found = words[i];
        }
    }
    return found;
}
