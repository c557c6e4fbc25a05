$(LIBCM): $(call objs,bus/err.c bus/mp.c bus/loop.c bus/pkt.c bus/wire.c \
          bus/gate.c bus/rundir.c bus/nodespec.c bus/nearest.c bus/config.c \
          bus/config_tags.c bus/config_finish.c \
          bus/stream.c bus/callers.c bus/limits.c bus/cgroup.c bus/kin.c bus/rests.c bus/tracefs.c bus/forwarder.c)
$(LIBBUS): $(call objs,bus/svc.c bus/svc_ready.c bus/zloop.c $(wildcard bus/store.c))

helpers += $(LIBEXEC)/busd
$(LIBEXEC)/busd: LIBS = $(ZMQ_LIBS) $(MP_LIBS)
$(LIBEXEC)/busd: $(call objs,bus/busd/main.c bus/busd/router.c bus/busd/gate.c) \
                 $(LIBBUS) $(LIBCM)
	$(LINK)
