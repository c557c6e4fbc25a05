helpers += $(LIBEXEC)/bootsrv $(LIBEXEC)/bpsetup
$(LIBEXEC)/bootsrv: LIBS = $(ZMQ_LIBS) $(MP_LIBS) $(SQLITE_LIBS) -lcrypto -lmicrohttpd -lpthread
$(LIBEXEC)/bootsrv: $(call objs,$(addprefix services/bootsrv/,main.c methods.c conf.c setup.c \
                    wanted.c history.c dhcp.c http.c send.c serve.c images.c machines.c spread.c) bus/image.c) $(LIBBUS) $(LIBCM)
	$(LINK)

$(LIBEXEC)/bpsetup: LIBS = $(MP_LIBS)
$(LIBEXEC)/bpsetup: $(call objs,services/bootsrv/bpsetup.c) $(LIBCM)
	$(LINK)
