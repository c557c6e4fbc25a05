# What bpcp and bpcopy share; the half that needs no TLS is a library.
LIBCOPY := $(B)/libcopy.a
$(LIBCOPY): $(call objs,$(addprefix copy/,chan.c report.c fan.c source.c sink.c sink_file.c relay.c))

# For the services that start a bpcopy.
copy_spawn := $(addprefix copy/,spawn.c peer.c)

helpers += $(LIBEXEC)/bpcopy
$(LIBEXEC)/bpcopy: LIBS = $(MP_LIBS) $(SSL_LIBS)
$(LIBEXEC)/bpcopy: $(call objs,$(addprefix copy/,bpcopy.c chan_bulk.c fan_open.c peer.c) bus/bulk.c bus/record.c bus/gcm.c) \
    $(LIBCOPY) $(LIBCM)
	$(LINK)
