helpers += $(LIBEXEC)/nodeset
$(LIBEXEC)/nodeset: LIBS = $(MP_LIBS)
$(LIBEXEC)/nodeset: $(call objs,node/nodeset/main.c node/nodeset/make.c node/nodeset/act.c) $(LIBCM)
	$(LINK)
