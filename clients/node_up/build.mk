# node_up: in libexec, where the scripts of sites look for it
helpers += $(LIBEXEC)/node_up
$(LIBEXEC)/node_up: LIBS = $(MP_LIBS)
$(LIBEXEC)/node_up: $(call objs,$(addprefix clients/node_up/,main.c conf.c stream.c files.c \
        modules.c plugins.c deliver.c) bus/elf.c) $(LIBCM)
	$(LINK)
