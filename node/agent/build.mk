helpers += $(LIBEXEC)/bpnode
agent_src := $(addprefix node/agent/,main.c space.c files.c cache.c fetch.c place.c request.c ahead.c launch.c job.c procs.c \
             report.c ps.c control.c way.c gate.c names.c kin.c join.c streams.c stream_link.c stream_out.c stream_in.c bulk_out.c)
$(LIBEXEC)/bpnode: LIBS = $(ZMQ_LIBS) $(MP_LIBS) $(SSL_LIBS)
$(LIBEXEC)/bpnode: $(call objs,$(agent_src) node/agent/copy.c node/agent/move.c node/agent/asker.c image/pump.c image/pipe.c image/room.c $(copy_spawn) bus/bulk.c bus/record.c bus/gcm.c) $(LIBBUS) $(LIBCM)
	$(LINK)
