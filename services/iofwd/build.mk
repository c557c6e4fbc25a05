helpers += $(LIBEXEC)/iofwd
iofwd_src := $(addprefix services/iofwd/,main.c methods.c keys.c nodes.c readers.c launch.c \
             output.c input.c closing.c handover.c)
$(LIBEXEC)/iofwd: LIBS = $(ZMQ_LIBS) $(MP_LIBS) $(SSL_LIBS)
$(LIBEXEC)/iofwd: $(call objs,$(iofwd_src) bus/bulk.c bus/record.c bus/gcm.c) $(LIBBUS) $(LIBCM)
	$(LINK)
