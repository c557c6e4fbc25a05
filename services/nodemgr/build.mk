nodemgr_core := services/nodemgr/nodes.c services/nodemgr/rules.c services/nodemgr/db.c
nodemgr_rest := main methods config admit address life libs set control view say

helpers += $(LIBEXEC)/nodemgr
$(LIBEXEC)/nodemgr: LIBS = $(ZMQ_LIBS) $(MP_LIBS) $(SQLITE_LIBS)
$(LIBEXEC)/nodemgr: $(call objs,$(nodemgr_core) \
                    $(nodemgr_rest:%=services/nodemgr/%.c) bus/elf.c) $(LIBBUS) $(LIBCM)
	$(LINK)
