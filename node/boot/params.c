/* params.c - what the kernel's command line and the image say */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/rundir.h"
#include "node/boot/boot.h"

#define PACE_DEFAULT { .initial_delay = 0.1, .max_delay = 5, .backoff = 1.2, \
                       .max_time = 600, .rand = 0.1 }

bool params_mac(const char *text, char out[BOOT_MAC])
{
    for (int i = 0; i < BOOT_MAC - 1; i++)
        if (i % 3 == 2 ? text[i] != ':' && text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    if (text[BOOT_MAC - 1])
        return false;
    for (int i = 0; i < BOOT_MAC - 1; i++)
        out[i] = i % 3 == 2 ? ':' : (char)tolower((unsigned char)text[i]);
    out[BOOT_MAC - 1] = 0;
    return true;
}

static bool is_addr(const char *text)
{
    struct in_addr in;

    return strlen(text) < BOOT_ADDR && inet_pton(AF_INET, text, &in) == 1;
}

static bool number(const char *text, int min, int max, int *out)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (!isdigit((unsigned char)*text) || *end || strlen(text) > 9 || v < min || v > max)
        return false;
    *out = (int)v;
    return true;
}

static bool take_master(struct params *p, char *value)
{
    char *colon = strchr(value, ':');
    int port = CM_PORT;

    if (colon) {
        *colon++ = 0;
        if (!number(colon, 1, 65535 - CM_PORT_CONTENT, &port))
            return false;
    }
    if (!is_addr(value))
        return false;
    snprintf(p->master, sizeof p->master, "%s", value);
    p->port = port;
    return true;
}

static bool take_server(struct params *p, const char *value)
{
    char addr[BOOT_ADDR], rest;
    int port;

    if (sscanf(value, "%15[0-9.]:%d%c", addr, &port, &rest) != 2 || !is_addr(addr) ||
        port < 1 || port > 65535)
        return false;
    snprintf(p->server, sizeof p->server, "%s:%d", addr, port);
    return true;
}

/* ADDRESS/PREFIX[,GATEWAY] */
static bool take_ip(struct params *p, char *value)
{
    char *gateway = strchr(value, ',');
    if (gateway)
        *gateway++ = 0;
    char *slash = strchr(value, '/');
    if (!slash)
        return false;
    *slash++ = 0;
    if (!is_addr(value) || !number(slash, 1, 32, &p->prefix) || (gateway && !is_addr(gateway)))
        return false;
    snprintf(p->ip, sizeof p->ip, "%s", value);
    snprintf(p->gateway, sizeof p->gateway, "%s", gateway ? gateway : "");
    return true;
}

static bool take_image(struct params *p, const char *value)
{
    if (strlen(value) != IMAGE_HASH - 1 || strspn(value, "0123456789abcdef") != IMAGE_HASH - 1)
        return false;
    memcpy(p->image, value, IMAGE_HASH);
    return true;
}

/* PXELINUX's, and what others write too: 01-52-54-00-77-00-10. */
static bool take_bootif(struct params *p, const char *value)
{
    return strncmp(value, "01-", 3) == 0 && params_mac(value + 3, p->first);
}

static bool take(struct params *p, const char *key, char *value)
{
    if (strcmp(key, "cm.master") == 0)
        return take_master(p, value);
    if (strcmp(key, "cm.boot") == 0)
        return take_server(p, value);
    if (strcmp(key, "cm.node") == 0)
        return number(value, 0, 1000000, &p->node);
    if (strcmp(key, "cm.image") == 0)
        return take_image(p, value);
    if (strcmp(key, "cm.ip") == 0)
        return take_ip(p, value);
    if (strcmp(key, "cm.mac") == 0)
        return params_mac(value, p->first);
    if (strcmp(key, "BOOTIF") == 0)
        return take_bootif(p, value);
    if (strcmp(key, "cm.if") == 0) {
        char mac[BOOT_MAC];
        if (strlen(value) >= sizeof p->card || !*value)
            return false;
        snprintf(p->card, sizeof p->card, "%s", params_mac(value, mac) ? mac : value);
    }
    return true;
}

int params_read(struct params *p, const char *cmdline, struct err *err)
{
    CLEANUP(cleanup_free) char *copy = strdup(cmdline);
    char *save = NULL;

    *p = (struct params){ .phase = 2, .port = CM_PORT, .node = -1, .pace = PACE_DEFAULT };
    p->cmdline = strdup(cmdline);
    p->config = strdup("");
    if (!copy || !p->cmdline || !p->config)
        return err_set(err, ENOMEM, "out of memory");
    for (char *w = strtok_r(copy, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
        char *value = strchr(w, '=');
        if (!value)
            continue;
        *value++ = 0;
        if (!take(p, w, value))
            boot_say("%s=%s on the command line: not understood, passed over", w, value);
    }
    return 0;
}

void params_free(struct params *p)
{
    free(p->cmdline);
    free(p->config);
    p->cmdline = p->config = NULL;
}

bool params_line(const struct params *p, const char **at, char word[32], char rest[512])
{
    const char *line = *at ? *at : p->config;

    while (*line) {
        size_t len = strcspn(line, "\n");
        const char *next = line + len + (line[len] == '\n');
        size_t blank = strcspn(line, " \n");
        if (blank > 0 && blank < 32) {
            snprintf(word, 32, "%.*s", (int)blank, line);
            size_t left = len > blank ? len - blank - 1 : 0;
            snprintf(rest, 512, "%.*s", (int)left, line + blank + (left > 0));
            *at = next;
            return true;
        }
        line = next;
    }
    return false;
}

static void take_pace(struct pace *pace, const char *text)
{
    char key[24];
    double v;

    if (sscanf(text, "%23s %lf", key, &v) != 2)
        return;
    if (strcmp(key, "initial_delay") == 0 && v >= 0.01)
        pace->initial_delay = v;
    else if (strcmp(key, "max_delay") == 0 && v >= 0.01)
        pace->max_delay = v;
    else if (strcmp(key, "backoff") == 0 && v >= 1)
        pace->backoff = v;
    else if (strcmp(key, "max_time") == 0 && v > 0)
        pace->max_time = v;
    else if (strcmp(key, "rand") == 0 && v >= 0 && v <= 1)
        pace->rand = v;
}

int params_image(struct params *p, const char *facts, const char *config, struct err *err)
{
    const char *at = NULL;
    char word[32], rest[512];

    free(p->config);
    p->config = strdup(facts);
    while (p->config && params_line(p, &at, word, rest)) {
        if (strcmp(word, "phase") == 0)
            p->phase = strcmp(rest, "1") == 0 ? 1 : 2;
        else if (strcmp(word, "release") == 0)
            snprintf(p->release, sizeof p->release, "%.95s", rest);
    }
    free(p->config);
    p->config = strdup(config);
    if (!p->config)
        return err_set(err, ENOMEM, "out of memory");
    at = NULL;
    while (params_line(p, &at, word, rest))
        if (strcmp(word, "rarp") == 0)
            take_pace(&p->pace, rest);
    return 0;
}
