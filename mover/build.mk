mover_objs := $(call objs,$(addprefix mover/,run.c look.c kept.c files.c pipes.c freeze.c back.c collect.c request.c \
    ghost.c note.c) image/write.c image/pipe.c image/maps.c image/going.c image/timers.c image/ticket.c)

helpers += $(LIBEXEC)/bpmover
$(LIBEXEC)/bpmover: LIBS = $(MP_LIBS)
$(LIBEXEC)/bpmover: $(call objs,mover/main.c) $(mover_objs) $(LIBCM)
	$(LINK)
