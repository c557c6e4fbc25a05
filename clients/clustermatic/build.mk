bins += $(BIN)/clustermatic
$(BIN)/clustermatic: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/clustermatic: $(call objs,$(addprefix clients/clustermatic/,main.c cluster.c \
        tool.c procs.c supervise.c up.c nodes.c down.c status.c misc.c doctor.c why.c image.c upgrade.c)) $(LIBCM)
	$(LINK)
