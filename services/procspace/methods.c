/* methods.c - the requests that procspace answers, and the events it follows */
#include <stdio.h>
#include <string.h>
#include "services/procspace/methods.h"

const struct svc_method procspace_methods[] = {
    { "procspace.launch", on_launch, SVC_USER | SVC_CHANGES },
    { "procspace.moved", on_moved, SVC_USER | SVC_CHANGES },
    { "procspace.pass", on_pass, SVC_USER | SVC_CHANGES },
    { "procspace.move", on_move_outside, SVC_USER | SVC_CHANGES },
    { "procspace.signal", on_signal, SVC_USER | SVC_CHANGES },
    { "procspace.stopped", on_stopped, SVC_USER | SVC_CHANGES },
    { "procspace.ghost", on_ghost, SVC_USER | SVC_CHANGES },
    { "procspace.orphan", on_orphan, SVC_USER },
    { "procspace.start", on_start, SVC_USER | SVC_CHANGES },
    { "procspace.child", on_child, SVC_USER | SVC_CHANGES },
    { "procspace.here", on_here, SVC_USER | SVC_CHANGES },
    { "procspace.end_launch", on_end_launch, SVC_USER | SVC_CHANGES },
    { "procspace.end_job", on_end_job, SVC_ADMIN | SVC_CHANGES },
    { "procspace.result", on_result, SVC_USER },
    { "procspace.list", on_list, SVC_USER },
    { "procspace.why", on_why, SVC_USER },
    { "procspace.ps", on_ps, SVC_USER },
    { "procspace.copy", on_copy, SVC_USER | SVC_CHANGES },
    { "procspace.report", on_report, SVC_NODE },
    SVC_METHODS_END
};

void on_node_event(void *arg, const struct wire *w, const msgpack_object *body)
{
    procspace_t *ps = arg;
    int64_t node = mp_opt_int(body, "node", -1);
    CLEANUP(cleanup_free) char *space = mp_opt_dup(body, "space");
    CLEANUP(cleanup_free) char *why = mp_opt_dup(body, "why");

    if (strcmp(w->from, "nodemgr") == 0 && strcmp(w->topic, "node.libs") == 0)
        libs_changed(ps);
    if (strcmp(w->from, "nodemgr") == 0 && strcmp(w->topic, "node.config") == 0)
        network_take(body);
    if (strcmp(w->from, "nodemgr") != 0 || node < 0 || node > INT32_MAX)
        return;
    struct node_space *ns = node_space(ps, (int)node);
    if (strcmp(w->topic, "node.lost") == 0) {
        node_lost(ps, (int)node, space, why);
    } else if (strcmp(w->topic, "node.joined") == 0 && space && ns) {
        if (ns->space[0] && strcmp(ns->space, space) != 0)
            node_lost(ps, (int)node, ns->space, "it has started afresh");
        snprintf(ns->space, sizeof ns->space, "%s", space);
        libs_node(ps, (int)node);
    }
}
