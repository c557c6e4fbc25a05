/* main.c - bpctl: change nodes
 *
 * The command line becomes a list of steps (plan.c), which are then carried
 * out from left to right (act.c).
 */
#include <stdio.h>
#include <stdlib.h>

#include "clients/bpctl/bpctl.h"
#include "clients/common/opt.h"

int main(int argc, char **argv)
{
    CLEANUP(plan_free) struct plan plan = { 0 };
    struct err err = { 0 };
    int status = EXIT_SUCCESS;
    int rc = plan_make(&plan, argc, argv, &status, &err);

    if (rc < 0) {
        fprintf(stderr, "bpctl: %s\n", err.text);
        return OPT_EXIT_USAGE;
    }
    if (rc > 0)
        return status;
    CLEANUP(gate_close) gate_t *g = gate_open("bpctl", &err);
    if (!g) {
        fprintf(stderr, "bpctl: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return plan_run(&plan, g);
}
