helpers += $(LIBEXEC)/procspace
$(LIBEXEC)/procspace: LIBS = $(ZMQ_LIBS) $(MP_LIBS) $(SSL_LIBS) -lpthread
$(LIBEXEC)/procspace: $(call objs,$(addprefix services/procspace/,main.c methods.c \
    launch.c launch_image.c launch_kin.c jobs.c owner.c table.c kids.c orphan.c ghosts.c relay.c trace.c signal.c kin.c home.c homed.c cries.c move_kin.c family.c report.c given.c late.c reaped.c recover.c lists.c past.c network.c asuser.c libs.c \
    contents.c also.c serve.c copy.c move.c move_before.c move_comers.c move_cut.c move_home.c move_pass.c move_said.c outside.c readers.c) image/pump.c image/pipe.c image/room.c $(copy_spawn) bus/bulk.c bus/record.c bus/gcm.c bus/elf.c) $(LIBBUS) $(LIBCM)
	$(LINK)
